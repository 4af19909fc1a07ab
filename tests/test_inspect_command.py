"""`pocketlm inspect` of what is not built yet, with a double of the Hugging Face Hub."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from pocketlm import main
from pocketlm.models import shapes
from pocketlm.models.hub import resolve
from pocketlm.models.weight_shapes import parameter_count


def inspect(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


def test_a_checkpoint_s_folder_shows_its_config_and_its_headers(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(resolve("pico"), folder)
    result = inspect(folder)
    assert result.exit_code == 0
    for expected in (
        f"{folder}: mine\n",
        "family             gemma3_text\n",
        "layers             6, 4 of them with a window of 64 tokens\n",
        "tied embeddings    yes\n",
        " BF16 with ",
        "recipes            ",
        "int4-g32",
    ):
        assert expected in result.stdout
    document = json.loads(inspect(folder, "--json").stdout)
    assert sum(document["stored_parameters"].values()) == document["parameters"]
    assert document["config"]["layers"][0]["num_attention_heads"] > 0 and document["commit"] is None


def test_damaged_weights_and_configs_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for text, message in (("{", "not valid JSON"), ("{}", "has model_type=None, but one of ")):
        (folder / "config.json").write_text(text)
        result = inspect(folder)
        assert result.exit_code == 2 and message in result.stderr
    (folder / "config.json").write_text(json.dumps(dict(shapes.load("qwen3-0.6b").published)))
    assert "stored tensors     not read\n" in inspect(folder).stdout
    (folder / "model.safetensors").write_bytes(b"no weights")
    assert "truncated or damaged" in inspect(folder).stderr


def test_the_embedded_model_and_published_shapes_have_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "family             gemma3_text\n" in inspect("pico").stdout
    shown = inspect("gemma-3-1b").stdout
    assert f"parameters         {parameter_count(shapes.load('gemma-3-1b').config):,}\n" in shown
    assert "stored tensors     not read\n" in shown


def test_headers_are_shown_without_the_library_that_checks_them_as_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert "stored tensors     not read\n" in inspect(resolve("pico")).stdout


def test_a_hub_id_is_shown_without_downloading_a_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    folder = tmp_path / "models--some--qwen" / "snapshots" / "dcc83ea"
    folder.mkdir(parents=True)
    config = folder / "config.json"
    config.write_text(json.dumps(dict(shapes.load("qwen3-0.6b").published)))
    asked: list[tuple[str, ...]] = []

    def download(hub_id: str, file: str, revision: str) -> str:
        asked.append((hub_id, file, revision))
        return str(config)

    def headers(hub_id: str, revision: str) -> SimpleNamespace:
        asked.append((hub_id, "headers", revision))
        tensors = {
            "a": SimpleNamespace(dtype="BF16", shape=[2, 3]),
            "b": SimpleNamespace(dtype="F32", shape=[4]),
        }
        return SimpleNamespace(files_metadata={"x": SimpleNamespace(tensors=tensors)})

    monkeypatch.setattr(hub, "hf_hub_download", download)
    monkeypatch.setattr(hub, "get_safetensors_metadata", headers)
    shown = inspect("some/qwen", "--revision", "v2").stdout
    assert asked == [("some/qwen", "config.json", "v2"), ("some/qwen", "headers", "dcc83ea")]
    assert "some/qwen: qwen, commit dcc83ea\n" in shown
    assert "stored tensors     1 BF16 with 6 parameters; 1 F32 with 4 parameters\n" in shown


def test_a_repository_without_the_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def fail(hub_id: str, file: str, revision: str | None) -> str:
        raise hub.errors.RemoteEntryNotFoundError.__new__(hub.errors.RemoteEntryNotFoundError)

    monkeypatch.setattr(hub, "hf_hub_download", fail)
    result = inspect("some/qwen")
    assert result.exit_code == 2
    assert "its repository has no config.json with safetensors at its top" in result.stderr


def test_a_revision_of_what_is_no_hub_id_is_refused(tmp_path: Path) -> None:
    for what in (tmp_path, "pico", "gemma-3-1b"):
        result = inspect(what, "--revision", "v2")
        assert result.exit_code == 2
        assert f"--revision v2: {what} is no " in result.stderr
        assert "have revisions; leave it out" in result.stderr
