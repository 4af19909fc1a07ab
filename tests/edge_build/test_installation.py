"""`pocketlm doctor`, and builds without their tools, with doubles of pip's records."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pocketlm import main
from pocketlm.edge_build.installation import inspect_installation, install_command


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def require(monkeypatch: pytest.MonkeyPatch, *requirements: str) -> None:
    monkeypatch.setattr(
        "pocketlm.edge_build.installation.requires", lambda name: list(requirements)
    )


def installed_from(monkeypatch: pytest.MonkeyPatch, origin: str | None) -> None:
    class Installed:
        def __init__(self, text: str | None) -> None:
            self.text = text

        def read_text(self, name: str) -> str | None:
            return self.text

    monkeypatch.setattr(
        # A clone's own description, which says nothing of that, comes first.
        "pocketlm.edge_build.installation.distributions",
        lambda name: [Installed(None), Installed(origin)],
    )


def extras_of(result: Result) -> dict[str, Any]:
    return {extra["name"]: extra for extra in json.loads(result.stdout)["extras"]}


def test_doctor_finds_everything_that_is_installed() -> None:
    result = invoke("doctor", "--json")
    extras = extras_of(result)
    assert result.exit_code == 0 and json.loads(result.stdout)["ok"]
    for name in ("pocketlm", "onnx", "executorch"):
        assert extras[name]["state"] == "ok" and extras[name]["missing"] == []
    found = {package["name"] for package in extras["executorch"]["packages"]}
    assert {"torch", "executorch"} <= found


def test_every_extra_says_what_it_is_for_and_those_that_join_others_are_left_out() -> None:
    extras = {extra.name: extra for extra in inspect_installation()}
    assert {"pocketlm", "onnx", "executorch", "device", "test"} <= extras.keys()
    assert "build" not in extras
    others = extras.keys() - {"onnx", "executorch"}
    assert [name for name in others if "artifacts" in extras[name].purpose] == []


def test_doctor_speaks_of_each_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    installed_from(monkeypatch, None)
    require(
        monkeypatch,
        "click>=1",
        'surely-not-installed>=1; extra == "onnx"',
        'click>=1; extra == "executorch"',
        'rich>=1; extra == "executorch"',
        'surely-absent; extra == "device"',
    )
    result = invoke("doctor")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1:] == [
        "ok             pocketlm    run bundles",
        "ok             executorch  build and run executorch artifacts",
        "not installed  onnx        build and run onnx artifacts",
        "                 surely-not-installed>=1: not installed",
        "                 run: pip install 'pocketlm[onnx]'",
        "not installed  device      use a phone over adb where the system has no adb",
        "                 surely-absent: not installed",
        "                 run: pip install 'pocketlm[device]'",
    ]
    extra = extras_of(invoke("doctor", "--json"))["onnx"]
    assert extra["missing"] == ["surely-not-installed"]
    assert extra["command"] == "pip install 'pocketlm[onnx]'"


def test_doctor_shows_every_package_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    require(monkeypatch, "click>=1")
    assert "click>=1: " not in invoke("doctor").stdout
    assert "click>=1: " in invoke("doctor", "-v").stdout


def test_doctor_fails_when_running_misses_something(monkeypatch: pytest.MonkeyPatch) -> None:
    installed_from(monkeypatch, '{"url": "file:///src", "dir_info": {"editable": true}}')
    require(monkeypatch, "surely-not-installed>=1", "click<1")
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "not installed  pocketlm    run bundles\n" in result.stdout
    assert "surely-not-installed>=1: not installed\n" in result.stdout
    assert "click<1: 8" in result.stdout
    assert " -m pip install --editable '/src'\n" in result.stdout


def test_doctor_fails_when_a_package_of_an_extra_has_a_wrong_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed_from(monkeypatch, None)
    require(monkeypatch, "click>=1", 'click<1; extra == "onnx"')
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "wrong version  onnx  " in result.stdout
    assert "run: pip install 'pocketlm[onnx]'\n" in result.stdout


def test_a_build_without_its_tools_names_the_command_that_helps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    require(monkeypatch, 'surely-not-installed>=1; extra == "onnx"')
    result = invoke("build", tmp_path, "--out", tmp_path / "out", "--backend", "onnx")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(
        "error: building needs surely-not-installed, not installed; run: "
    )
    assert result.stderr.endswith("[onnx]'\n")


def test_a_build_for_one_backend_needs_its_tools_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    require(
        monkeypatch,
        'surely-not-installed>=1; extra == "executorch"',
        'click>=1; extra == "onnx"',
    )
    for chosen, message in (
        ((), "surely-not-installed, not installed; run: "),
        (("--backend", "executorch"), "[executorch]'\n"),
        (("--backend", "onnx"), "no config.json"),
    ):
        result = invoke("build", tmp_path, "--out", tmp_path / "out", *chosen)
        assert result.exit_code == 2
        assert message in result.stderr
    result = invoke("build", tmp_path, "--out", tmp_path / "out")
    assert result.stderr.endswith("[build]', or build with --backend onnx\n")


def test_the_command_that_helps_follows_where_pocketlm_came_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for origin, end in (
        (None, "pip install 'pocketlm[build]'"),
        ('{"url": "file:///a%20b", "dir_info": {}}', " -m pip install '/a b[build]'"),
        (
            '{"url": "file:///src", "dir_info": {"editable": true}}',
            " -m pip install --editable '/src[build]'",
        ),
    ):
        installed_from(monkeypatch, origin)
        assert install_command("build").endswith(end)
