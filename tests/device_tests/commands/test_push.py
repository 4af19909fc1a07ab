"""pocketlm push, onto this machine."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pocketlm import main


@pytest.fixture(autouse=True)
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that the host's jobs go to."""
    monkeypatch.setenv("POCKETLM_CACHE", str(tmp_path))
    return tmp_path


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["push", *map(str, arguments)])


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_is_sent_whole_and_only_once(pico_bundle: Path, device: Path) -> None:
    result = invoke(pico_bundle, "--on", "host", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert (document["target"], document["backends"]) == ("host", ["executorch", "onnx"])
    folder = Path(document["folder"])
    assert folder.is_relative_to(device)
    names = {str(path.relative_to(folder)) for path in times(folder)}
    assert {"manifest.json", "executorch/model.pte", "onnx/model.onnx.data"} <= names
    assert not any(name.startswith("golden/") for name in names)
    before = times(folder)
    again = invoke(pico_bundle, "--on", "host")
    assert again.exit_code == 0
    assert again.stdout.splitlines() == [
        f"pico is on host, in {folder}",
        f"next: pocketlm profile {pico_bundle} --on host",
        "to remove it: pocketlm jobs remove all --on host",
    ]
    assert times(folder) == before


def test_one_backend_can_be_sent(pico_bundle: Path) -> None:
    result = invoke(pico_bundle, "--on", "host", "--backend", "onnx", "--json")
    document = json.loads(result.stdout)
    assert document["backends"] == ["onnx"]
    assert not (Path(document["folder"]) / "executorch").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--on", "host", "--backend", "tflite"), "has no such artifact, only executorch, onnx"),
        (("--on", "fridge"), "--on fridge: unknown; known: adb, host, ssh"),
        (("--on", "host:1"), "host is this machine"),
        ((), "Missing option '--on'"),
    ],
)
def test_wrong_input_exits_with_2(
    pico_bundle: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = invoke(pico_bundle, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_damaged_bundle_is_not_sent(pico_bundle: Path, device: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(pico_bundle, damaged)
    with (damaged / "tokenizer.json").open("r+b") as file:
        file.write(b"?")
    result = invoke(damaged, "--on", "host")
    assert result.exit_code == 2
    assert "was changed after the build" in result.stderr
    assert not (device / "host").exists()
