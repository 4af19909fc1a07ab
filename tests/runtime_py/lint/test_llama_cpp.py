"""What llama.cpp would be given of a tokenizer, and a double of it; the real one takes minutes to
compile."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.lint import comparison
from pocketlm.runtime_py.lint.reader import Questions
from pocketlm.runtime_py.lint.readers import llama_cpp
from tests.conftest import PICO

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6


def added(index: int, text: str, special: bool) -> dict[str, Any]:
    return {"id": index, "content": text, "special": special}


def document(**changes: Any) -> dict[str, Any]:
    vocabulary = {"<unk>": 0, "<0x41>": 1, "a": 2, "b": 3, "ab": 4, "abb": 5, "</s>": 6}
    model = {
        "type": "BPE",
        "vocab": vocabulary,
        "merges": [["a", "b"], "ab b"],
        "unk_token": "<unk>",
        "byte_fallback": True,
    }
    tokens = [added(0, "<unk>", True), added(6, "</s>", True), added(8, "<x>", False)]
    return {"model": model, "added_tokens": tokens, "decoder": None, **changes}


def test_the_first_merge_has_the_highest_score() -> None:
    found = llama_cpp.vocabulary_of(document())
    assert (found.model, found.pre, found.merges) == ("llama", None, [])
    assert found.scores[4] == 0 > found.scores[5] == -1 > found.scores[2] == -2


def test_each_token_has_its_type_and_a_hole_has_a_name() -> None:
    found = llama_cpp.vocabulary_of(document())
    assert found.texts == ["<unk>", "<0x41>", "a", "b", "ab", "abb", "</s>", "[PAD7]", "<x>"]
    expected = [UNKNOWN, BYTE, *[NORMAL] * 4, CONTROL, USER_DEFINED, USER_DEFINED]
    assert found.types == expected


def test_bytes_are_merged_in_order_behind_a_named_pre_tokenizer() -> None:
    split = {"type": "Split", "pattern": {"Regex": "[a-z]+|\\p{N}| ?x"}}
    found = llama_cpp.vocabulary_of(document(decoder={"type": "ByteLevel"}, pre_tokenizer=split))
    assert (found.model, found.pre, found.merges) == ("gpt2", "qwen2", ["a b", "ab b"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"type": "Unigram"}}, "a model of type Unigram; this reader takes BPE"),
        ({"decoder": {"type": "ByteLevel"}}, "a pre-tokenizer that llama.cpp has no name for"),
    ],
)
def test_what_llama_cpp_cannot_read_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        llama_cpp.vocabulary_of(document(**changes))


def test_texts_are_asked_without_bos_and_control_tokens_are_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[llama_cpp.Vocabulary] = []

    class Llama:
        def __init__(self, path: str, vocab_only: bool, verbose: bool) -> None:
            assert vocab_only and not verbose

        def tokenize(self, text: bytes, add_bos: bool, special: bool) -> list[int]:
            assert special and not add_bos
            return [*text]

        def detokenize(self, ids: list[int]) -> bytes:
            return bytes(ids)

    monkeypatch.setitem(sys.modules, "llama_cpp", SimpleNamespace(Llama=Llama))  # type: ignore[arg-type]
    monkeypatch.setattr(llama_cpp, "write_gguf", lambda found, path: written.append(found))
    (tmp_path / "tokenizer.json").write_text(json.dumps(document()))
    answers = llama_cpp.READER.answer(tmp_path, Questions(["", "a\0"], []))
    assert (answers.ids, answers.decoded, answers.chats) == ([[], [97, 0]], ["", "a\0"], ())
    assert len(written) == 1


def test_the_file_holds_the_vocabulary(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    vocabulary = llama_cpp.vocabulary_of(json.loads((PICO / "tokenizer.json").read_bytes()))
    llama_cpp.write_gguf(vocabulary, tmp_path / "vocabulary.gguf")
    fields = gguf.GGUFReader(tmp_path / "vocabulary.gguf").fields
    assert fields["tokenizer.ggml.tokens"].contents() == vocabulary.texts
    assert fields["tokenizer.ggml.model"].contents() == "llama"


def test_it_is_asked_by_lint_alone_and_where_both_distributions_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setattr(comparison, "version", lambda distribution: "1.0")
    assert comparison.installed_readers(tmp_path) == {}
    assert comparison.installed_readers(tmp_path, others=True) == {"llama_cpp": "1.0"}

    def without_gguf(distribution: str) -> str:
        if distribution == "gguf":
            raise comparison.PackageNotFoundError
        return "1.0"

    monkeypatch.setattr(comparison, "version", without_gguf)
    assert comparison.installed_readers(tmp_path, others=True) == {}
