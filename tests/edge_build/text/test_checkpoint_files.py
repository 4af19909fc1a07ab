"""The checkpoint's small files: each is read once, and what is broken is refused."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocketlm.edge_build.build_key import build_key
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.preparation import prepare
from pocketlm.edge_build.prompts import open_tokenizer
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.edge_build.text.checkpoint_files import CheckpointFiles
from pocketlm.runtime_py.tokenizer_library import LibraryTokenizer
from tests.conftest import PICO
from tests.text_variants import TEXT_FILES, variant


@pytest.fixture
def opened() -> Iterator[Counter[str]]:
    """How often each path was opened since, whoever did it in Python."""
    counts: Counter[str] = Counter()
    counting = [True]

    def count(event: str, arguments: tuple[object, ...]) -> None:
        # No hook can be removed; this one ends with its test.
        if counting and event == "open":
            counts[str(arguments[0])] += 1

    sys.addaudithook(count)
    yield counts
    counting.clear()


def test_a_build_reads_each_file_beside_the_weights_once(
    tmp_path: Path, opened: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(LibraryTokenizer, "from_file")  # the library opens files unseen
    folder = variant(tmp_path / "checkpoint")
    folder.joinpath("model.safetensors").symlink_to(PICO / "model.safetensors")
    opened.clear()
    prepared = prepare(BuildSpec(folder, tmp_path / "out", ("onnx",)))
    build_key(prepared, prepared.checkpoint.digest())
    open_tokenizer(prepared.text)
    (tmp_path / "bundle").mkdir()
    prepared.text.copy_to(tmp_path / "bundle")
    read = {name: opened[str(folder / name)] for name in TEXT_FILES if (folder / name).exists()}
    assert read == dict.fromkeys(read, 1) and len(read) >= 5


def test_what_changes_after_it_was_read_does_not_reach_the_bundle(tmp_path: Path) -> None:
    folder = variant(tmp_path / "checkpoint")
    files = CheckpointFiles.read(folder, (folder / "config.json").read_bytes())
    (folder / "generation_config.json").write_text("{}")
    assert files.object("generation_config.json")["eos_token_id"]


def test_lines_end_alike_whoever_wrote_the_file(tmp_path: Path) -> None:
    folder = variant(tmp_path / "checkpoint")
    (folder / "chat_template.jinja").write_bytes(b"a\r\nb\rc\n")
    assert CheckpointFiles.read(folder, b"{}").text("chat_template.jinja") == "a\nb\nc\n"


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    folder = variant(tmp_path / "checkpoint")
    (folder / "added_tokens.json").mkdir()
    with pytest.raises(BuildError, match=r"added_tokens\.json: cannot be read: Is a directory; "):
        CheckpointFiles.read(folder, b"{}")


def test_what_is_no_text_is_refused_with_its_place(tmp_path: Path) -> None:
    folder = variant(tmp_path / "checkpoint")
    (folder / "tokenizer_config.json").write_bytes(b'{"a": "\xff"}')
    files = CheckpointFiles.read(folder, b"{}")
    with pytest.raises(BuildError, match=r"is not UTF-8 text: .* at byte 7; save it as UTF-8"):
        files.object("tokenizer_config.json")


def test_an_absent_file_is_an_empty_object(tmp_path: Path) -> None:
    files = CheckpointFiles.read(tmp_path, json.dumps({"a": 1}).encode())
    assert files.object("added_tokens.json") == {} and files.object("config.json") == {"a": 1}
