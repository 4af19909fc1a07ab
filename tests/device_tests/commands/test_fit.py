"""pocketlm fit: shapes that were not even downloaded, bundles, exit codes."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pocketlm import main
from pocketlm.device_tests.fit import memory_budget
from pocketlm.device_tests.fit.memory_budget import profiles
from pocketlm.device_tests.quantities import size_text
from pocketlm.models import shapes


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["fit", *map(str, arguments)])


def document(*arguments: object) -> Any:
    return json.loads(invoke(*arguments, "--json").stdout)


def test_a_shape_is_held_against_every_profile_and_backend() -> None:
    found = document("gemma-3-270m")
    assert (found["name"], found["recipe"], found["context_length"], found["prefill_chunk"]) == (
        "gemma-3-270m",
        "int8-head4",
        4096,
        128,
    )
    asked = [(one["backend"], one["device"]["name"]) for one in found["fits"]]
    names = [budget.name for budget in profiles()]
    assert asked == [(backend, name) for backend in ("executorch", "onnx") for name in names]
    for one in found["fits"]:
        parts = one["parts"]
        assert one["dirty_bytes"] == sum(p["size_bytes"] for p in parts if p["kind"] == "dirty")
        assert one["clean_bytes"] == sum(p["size_bytes"] for p in parts if p["kind"] == "clean")
        resident = one["dirty_bytes"] + one["clean_bytes"]
        assert one["peak_bytes"] == max(resident, one["load_peak_bytes"])
        assert (one["answer"], one["changes"]) == ("fits", [])


def test_what_fits_exits_with_0_and_shows_its_arithmetic() -> None:
    asked = ("gemma-3-270m", "--device", "phone-6gb", "--backend", "executorch")
    short = invoke(*asked)
    assert short.exit_code == 0
    headline, _, row, hint = short.stdout.splitlines()
    assert headline == "gemma-3-270m, int8-head4: context length 4,096 tokens, prefill chunk 128"
    assert re.match(r" phone-6gb +executorch +fits ", row)
    assert hint == "details: -v"
    result = invoke(*asked, "--verbose")
    assert "1.40 GB without memory pressure, 2.24 GB at most" in " ".join(result.stdout.split())


def test_what_will_not_fit_exits_with_1_and_shows_what_makes_it_fit() -> None:
    arguments = ("qwen3-4b", "--device", "phone-8gb", "--backend", "executorch")
    result = invoke(*arguments)
    assert result.exit_code == 1
    commands = [
        "executorch on phone-8gb: to make it fit:",
        "  pocketlm build CHECKPOINT --out BUNDLE --recipe int4-g32 --kv int8, "
        "then pocketlm profile BUNDLE --on DEVICE --packed-cache",
    ]
    assert result.stdout.splitlines()[3:5] == commands
    assert "to make it tight" not in result.stdout
    assert "the system would kill it" in invoke(*arguments, "--verbose").stdout
    (one,) = document(*arguments)["fits"]
    answers = [change["answer"] for change in one["changes"]]
    order = ["fits", "tight", "will not fit"]
    assert answers == sorted(answers, key=order.index)


def test_all_devices_are_one_line_each_with_one_peak() -> None:
    lines = invoke("gemma-3-4b").stdout.splitlines()
    answers = document("gemma-3-4b")["fits"]
    rows = lines[2 : 2 + len(answers)]
    for row, one in zip(rows, answers, strict=True):
        start = rf" {one['device']['name']} +{one['backend']} +{one['answer']} +"
        assert re.match(start + rf"{size_text(one['dirty_bytes'])} ", row)
        assert row.count(size_text(one["peak_bytes"])) == 1


def test_what_only_makes_it_tight_is_shown_with_verbose_alone() -> None:
    arguments = ("gemma-3-4b", "--device", "phone-4gb", "--backend", "executorch")
    tried = "executorch on phone-4gb: no option that was tried makes it fit; some make it tight"
    short = invoke(*arguments)
    assert short.stdout.splitlines()[3:] == [f"{tried} (see -v)", "details: -v"]
    details = invoke(*arguments, "--verbose").stdout
    command = "pocketlm profile BUNDLE --on DEVICE --packed-cache"
    assert f"{tried}\nto make it tight:\n  {command}\n" in details


def test_devices_with_the_same_remedy_share_its_lines() -> None:
    devices = ("--device", "phone-6gb", "--device", "phone-8gb", "--device", "phone-4gb")
    lines = invoke("qwen3-4b", *devices, "--backend", "executorch").stdout.splitlines()
    assert lines[5:-1] == [
        "executorch on phone-6gb, phone-4gb: no option that was tried makes it fit; some make it "
        "tight (see -v)",
        "executorch on phone-8gb: to make it fit:",
        "  pocketlm build CHECKPOINT --out BUNDLE --recipe int4-g32 --kv int8, "
        "then pocketlm profile BUNDLE --on DEVICE --packed-cache",
        "CHECKPOINT: a folder or a hub id that has the weights of qwen3-4b",
    ]


def test_details_show_each_prediction_once_and_one_peak_for_it() -> None:
    phones = ("--device", "phone-6gb", "--device", "phone-8gb")
    text = invoke("gemma-3-270m", *phones, "--backend", "onnx", "--verbose").stdout
    assert text.count("onnx, aarch64:\n") == 1
    assert len(re.findall(r"│ peak ", text)) == 1
    assert "phone-6gb: peak: " in text and "phone-8gb: peak: " in text


def test_details_show_a_prediction_for_each_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    phone = profiles()[1]
    monkeypatch.setattr(
        memory_budget,
        "find_budget",
        lambda name: replace(phone, name=name, architecture={"a": "aarch64", "b": "x86_64"}[name]),
    )
    asked = ("gemma-3-270m", "--device", "a", "--device", "b", "--backend", "executorch")
    text = invoke(*asked, "--verbose").stdout
    assert "executorch, aarch64:\n" in text and "executorch, x86_64:\n" in text


def test_a_checkpoint_is_planned_by_its_config_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    config = tmp_path / "mine" / "config.json"
    config.write_text(json.dumps(dict(shapes.load("qwen3-0.6b").published)))
    mine, shape = (document(name)["fits"] for name in (tmp_path / "mine", "qwen3-0.6b"))
    assert [one["peak_bytes"] for one in mine] == [one["peak_bytes"] for one in shape]
    for text in ("{", "{}", "[]"):
        config.write_text(text)
        result = invoke(tmp_path / "mine")
        assert result.exit_code == 2 and "config.json: " in result.stderr


def test_a_hub_id_is_planned_by_its_config_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    config = tmp_path / "models--some--qwen" / "snapshots" / "abc" / "config.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps(dict(shapes.load("qwen3-0.6b").published)))
    asked: list[tuple[str, str, str | None]] = []

    def download(repository: str, file: str, revision: str | None) -> str:
        asked.append((repository, file, revision))
        return str(config)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert document("some/qwen")["name"] == "qwen"
    assert document("some/qwen", "--revision", "v2")["name"] == "qwen"
    assert asked == [("some/qwen", "config.json", None), ("some/qwen", "config.json", "v2")]

    def fail(repository: str, file: str, revision: str | None) -> str:
        raise OSError("no network")

    monkeypatch.setattr(hub, "hf_hub_download", fail)
    result = invoke("some/qwen")
    assert result.exit_code == 2
    assert (
        "Hub could not be reached (OSError); check the network, or give a folder" in result.stderr
    )


def test_a_revision_of_what_is_no_hub_id_is_refused() -> None:
    result = invoke("qwen3-4b", "--revision", "v2")
    assert result.exit_code == 2
    assert "--revision v2: qwen3-4b is no id on the Hugging Face Hub" in result.stderr


def test_one_device_that_it_will_not_fit_is_enough_for_1() -> None:
    arguments = ("qwen3-4b", "--backend", "executorch", "--device")
    assert invoke(*arguments, "phone-16gb").exit_code == 0
    assert invoke(*arguments, "phone-16gb", "--device", "phone-4gb").exit_code == 1


def test_where_no_option_helps_none_is_shown() -> None:
    arguments = ("gemma-3-4b", "--device", "phone-4gb", "--backend", "onnx")
    tried = "onnx on phone-4gb: no option that was tried makes it fit; try several at once, or a "
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[3:] == [f"{tried}smaller model", "details: -v"]
    assert "pocketlm " not in invoke(*arguments, "--verbose").stdout


def test_choices_of_a_shape_change_what_it_needs() -> None:
    arguments = ("gemma-3-1b", "--device", "phone-8gb", "--backend", "executorch")
    plain, int8, short, packed = (
        document(*arguments, *more)["fits"][0]
        for more in ((), ("--kv", "int8"), ("--context", 1024), ("--packed-cache",))
    )
    assert int8["dirty_bytes"] < plain["dirty_bytes"]
    assert short["positions"] == 1024 and short["dirty_bytes"] < plain["dirty_bytes"]
    weights = next(p for p in plain["parts"] if p["part"] == "weights, packed")
    assert plain["dirty_bytes"] - packed["dirty_bytes"] == weights["size_bytes"]


def test_this_machine_is_a_device_too() -> None:
    (one,) = document("gemma-3-270m", "--device", "host", "--backend", "onnx")["fits"]
    assert one["device"]["name"] == "host" and one["device"]["evicts"] is False


def test_a_bundle_is_what_it_is(pico_bundle: Path) -> None:
    found = document(pico_bundle, "--device", "phone-4gb")
    assert (found["context_length"], found["prefill_chunk"]) == (512, 32)
    assert [(one["backend"], one["positions"]) for one in found["fits"]] == [
        ("executorch", 512),
        ("onnx", 512),
    ]
    fewer = document(pico_bundle, "--device", "phone-4gb", "--context", 100)
    for whole, part in zip(found["fits"], fewer["fits"], strict=True):
        assert part["positions"] == 100
        assert part["dirty_bytes"] < whole["dirty_bytes"]
    assert invoke(pico_bundle, "--device", "phone-4gb").exit_code == 0
    text = invoke(pico_bundle, "--device", "phone-4gb", "--context", 100).stdout
    assert "context length 512 tokens, 100 of them used, prefill chunk 32\n" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--recipe", "int4-g64"), "--recipe int4-g64: {} is built already; name its shape"),
        (("--chunk", 8), "--chunk 8: {} is built already"),
        (("--kv", "int8"), "--kv int8: {} is built already"),
        (("--context", 513), "--context 513: {} was built for 1 to 512 positions"),
        (("--context", 0), "--context 0: {} was built for 1 to 512 positions"),
        (("--backend", "tflite"), "--backend tflite: {} has executorch, onnx"),
    ],
)
def test_a_built_bundle_cannot_be_asked_to_be_another(
    pico_bundle: Path, arguments: tuple[object, ...], message: str
) -> None:
    result = invoke(pico_bundle, *arguments)
    assert result.exit_code == 2
    assert f"error: {message.format(pico_bundle)}" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("gemma-3-1bb",),
            "no bundle and no checkpoint lies there, and shape 'gemma-3-1bb' is unknown",
        ),
        (("gemma-3-1bb",), "the nearest known is 'gemma-3-1b'"),
        (("gemma-3-1b", "--recipe", "int3"), "int3"),
        (("gemma-3-1b", "--context", 10**6), "made for at most 32768"),
        (("gemma-3-1b", "--context", 0), "--context 0"),
        (("gemma-3-1b", "--context", -5), "--context -5"),
        (("gemma-3-1b", "--chunk", 0), "--chunk 0"),
        (("gemma-3-1b", "--chunk", 8192), "--chunk 8192"),
        (("gemma-3-1b", "--backend", "tflite"), "gemma-3-1b has executorch, onnx"),
        (("gemma-3-1b", "--backend", "onnx", "--packed-cache"), "only executorch keeps packed"),
        (("gemma-3-1b", "--device", "phone-6g"), "did you mean phone-6gb?"),
        (("gemma-3-1b", "--kv", "int4"), "int4"),
        (("gemma-3-1b", "--kv", "auto"), "'auto' is not one of 'float32', 'int8', 'int8-local'"),
        (("qwen3-0.6b", "--kv", "int8-local"), "--kv int8-local: needs layers with a window"),
        (("/",), "no bundle and no checkpoint lies there"),
        (("",), "no bundle and no checkpoint lies there"),
    ],
)
def test_wrong_input_exits_with_2(
    arguments: tuple[object, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
