"""From what the user typed to a folder, without a network."""

import sys
from pathlib import Path
from typing import Any

import pytest

from pocketlm.models.errors import ModelError
from pocketlm.models.hub import HubOrigin, checkpoint_name, hub_origin, resolve


def refusal(checkpoint: str, revision: str | None = None) -> str:
    with pytest.raises(ModelError) as failure:
        resolve(checkpoint, revision)
    return str(failure.value)


def answer(monkeypatch: pytest.MonkeyPatch, result: Any) -> list[tuple[str, str | None, list[str]]]:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    asked: list[tuple[str, str | None, list[str]]] = []

    def snapshot_download(hub_id: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((hub_id, revision, allow_patterns))
        if isinstance(result, Exception):
            raise result
        return str(result)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert resolve(str(tmp_path)) == tmp_path


def test_a_folder_wins_over_an_id_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name") == Path("org/name")


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    assert "a file; give the folder" in refusal(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("name", ["nowhere", "/no/such/folder", "../x", "a/b/c", "./a", "a b/c"])
def test_what_is_neither_a_folder_nor_an_id_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where nothing has such a name
    assert f"{name}: no such folder; give a folder" in refusal(name)


def test_an_id_is_downloaded_without_pickle_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answer(monkeypatch, tmp_path)
    assert resolve("org/some-model-1.5b") == tmp_path
    hub_id, revision, patterns = asked[0]
    assert (hub_id, revision) == ("org/some-model-1.5b", None)
    assert not any("bin" in pattern or "pt" in pattern for pattern in patterns)


def test_no_network_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = pytest.importorskip("huggingface_hub.errors")
    answer(monkeypatch, errors.LocalEntryNotFoundError("no connection"))
    message = refusal("org/name")
    assert "could not be reached" in message
    assert "check the network, or give a folder" in message


def test_no_access_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = pytest.importorskip("huggingface_hub.errors")
    gated = errors.GatedRepoError.__new__(errors.GatedRepoError)
    answer(monkeypatch, gated)
    assert "accept the model's terms" in refusal("org/name")


def test_a_missing_download_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "needs the package huggingface_hub" in refusal("org/name")


def test_a_published_shape_is_known_for_what_it_is() -> None:
    message = refusal("gemma-3-1b")
    assert message.startswith("gemma-3-1b: a published shape, no checkpoint; ")
    assert "pocketlm checkpoint gemma-3-1b --random --out DIR" in message
    assert "pocketlm fit gemma-3-1b" in message


def test_a_gguf_file_is_a_checkpoint_and_another_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "model.Q4_0.gguf"
    path.write_bytes(b"GGUF")
    assert resolve(str(path)) == path
    assert checkpoint_name(path) == "model.Q4_0"
    (tmp_path / "model.bin").write_bytes(b"")
    assert "a file; give the folder of the checkpoint" in refusal(str(tmp_path / "model.bin"))


def test_a_checkpoint_in_the_hub_s_cache_is_called_by_its_repository(tmp_path: Path) -> None:
    cached = tmp_path / "models--google--gemma-3-1b-it" / "snapshots" / "dcc83ea841ab6100d6b47a07"
    assert checkpoint_name(cached) == "gemma-3-1b-it"
    assert checkpoint_name(tmp_path / "mine") == "mine"
    assert checkpoint_name(tmp_path / "snapshots" / "mine") == "mine"


def test_a_revision_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, tmp_path)
    resolve("org/name", "v1.5")
    assert asked[0][:2] == ("org/name", "v1.5")


def test_an_unknown_revision_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = pytest.importorskip("huggingface_hub.errors")
    answer(monkeypatch, errors.RevisionNotFoundError.__new__(errors.RevisionNotFoundError))
    message = refusal("org/name", "v9")
    assert "--revision v9: org/name has no such branch, tag or commit" in message


def test_a_revision_of_what_is_no_hub_id_is_refused(tmp_path: Path) -> None:
    for checkpoint in (str(tmp_path), "pico", "no/such/folder", "gemma-3-1b"):
        message = refusal(checkpoint, "main")
        assert f"{checkpoint} is no id on the Hugging Face Hub" in message
        assert "leave it out" in message


def test_the_embedded_model_has_a_name_unless_a_folder_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    embedded = resolve("pico")
    assert (embedded / "model.safetensors").is_file()
    assert checkpoint_name(embedded) == "pico"
    (tmp_path / "pico").mkdir()
    assert resolve("pico") == Path("pico")


def test_the_hub_s_cache_says_id_and_commit(tmp_path: Path) -> None:
    cached = tmp_path / "models--org--name-1b" / "snapshots" / "dcc83ea841ab"
    assert hub_origin(cached) == HubOrigin("org/name-1b", "dcc83ea841ab")
    assert hub_origin(tmp_path / "models--gpt2" / "snapshots" / "abc") == HubOrigin("gpt2", "abc")
    for other in (
        tmp_path,
        tmp_path / "snapshots" / "x",
        tmp_path / "models--a--b" / "x",
        Path("/"),
    ):
        assert hub_origin(other) is None
