"""pocketlm devices: what is there, for people and machines."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner, Result

from pocketlm import main
from pocketlm.device_tests.device import targets
from pocketlm.device_tests.device.target import Listed, LostDeviceError, Target
from tests.device_tests.report.sample_reports import PHONE


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["devices", *arguments])


@pytest.fixture
def only_host(monkeypatch: pytest.MonkeyPatch) -> None:
    # Phones that are connected are none of this test's business.
    monkeypatch.setattr(targets, "KINDS", ("host", "ssh"))


def test_this_machine_is_listed(only_host: None) -> None:
    result = invoke("--json")
    assert result.exit_code == 0
    (host,) = json.loads(result.stdout)
    assert (host["name"], host["state"], host["advice"]) == ("host", "ready", "")
    facts = host["facts"]
    assert facts["provenance"] == "host"
    assert facts["ram_bytes"] > facts["available_bytes"] > 0
    assert facts["cores"] >= 1 and facts["page_bytes"] >= 4096


def test_a_device_that_is_named_and_not_there_says_why(
    only_host: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(address: str) -> Target:
        raise LostDeviceError(f"{address} does not answer")

    monkeypatch.setattr(targets.load("ssh"), "open", lost)
    result = invoke("--on", "ssh:pi", "--json")
    assert result.exit_code == 0
    _, named = json.loads(result.stdout)
    assert named == {
        "name": "ssh:pi",
        "state": "offline",
        "advice": "pi does not answer",
        "facts": None,
    }


def test_an_unknown_kind_that_is_named_says_what_is_known(only_host: None) -> None:
    result = invoke("--on", "usb:1", "--json")
    _, named = json.loads(result.stdout)
    assert named["state"] == "unreachable"
    assert "--on usb: unknown" in named["advice"]


def test_people_see_what_counts_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    emulated = replace(PHONE, model="virt", provenance="qemu-system", cpu_features=("fp",))
    listed = (
        Listed("adb:1", "ready", "", PHONE),
        Listed("adb:2", "ready", "", emulated),
        Listed("adb:[3]", "unauthorized", "accept the question it shows", None),
    )
    monkeypatch.setattr(targets, "list_targets", lambda named: listed)
    result = invoke()
    assert result.exit_code == 0
    first, second, third = (
        text.splitlines() for text in result.stdout.replace("\nadb", "\n\nadb").split("\n\n")
    )
    assert first[0] == "adb:1: ready"
    assert first[1].startswith("  Pixel 8, Android 16")
    assert "7.85 GB RAM, 3.10 GB available" in first[2]
    assert all(name in first[3] for name in ("9 cores", "dotprod", "i8mm", "bf16"))
    assert "virt (qemu-system)" in second[1]
    assert second[3].endswith("9 cores")
    assert third == ["adb:[3]: unauthorized", "  accept the question it shows"]


def test_lines_are_not_cut_where_the_terminal_is_narrow(
    only_host: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    lines = invoke().stdout.splitlines()
    assert lines[0] == "host: ready" and len(lines) == 4
