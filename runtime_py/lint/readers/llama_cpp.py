"""llama.cpp's tokenizer, on a vocabulary-only GGUF file made from the bundle's tokenizer.json.

What becomes which key: https://github.com/ggml-org/llama.cpp, convert_hf_to_gguf.py. No bundle
ships a GGUF file; this says how the same tokenizer reads there.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.lint.reader import Questions, Reader, ReaderOutput

_FILE = "tokenizer.json"
# A part of a pre-tokenizer's expression → llama.cpp's name of it.
_PRE_TOKENIZERS = {r"\p{N}|": "qwen2", r"\p{N}{1,3}": "llama-bpe"}
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as GGUF states it.

    Attributes:
        model: "llama", which merges the piece of the highest score, or "gpt2", which merges bytes
            in order of `merges`.
        pre: name of the pre-tokenizer; None for "llama".
        types: one of gguf.TokenType for each text.
    """

    model: str
    pre: str | None
    texts: Sequence[str]
    scores: Sequence[float]
    types: Sequence[int]
    merges: Sequence[str]


def vocabulary_of(document: Mapping[str, Any]) -> Vocabulary:
    """Return what a GGUF file would hold of a tokenizer.json.

    Raises:
        RunError: llama.cpp has no tokenizer of this kind.
    """
    model = document.get("model") or {}
    if model.get("type") != "BPE":
        raise RunError(f"{_FILE}: a model of type {model.get('type')}; this reader takes BPE")
    added = {entry["id"]: entry for entry in document.get("added_tokens") or ()}
    ids = {**model["vocab"], **{entry["content"]: i for i, entry in added.items()}}
    texts = {i: text for text, i in ids.items()}
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    size = max(texts, default=-1) + 1
    is_bytes = '"ByteLevel"' in json.dumps(document.get("decoder"))
    # A merge stands for the piece that it makes; the first of several counts.
    rank = {left + right: i for i, (left, right) in reversed([*enumerate(merges)])}
    return Vocabulary(
        model="gpt2" if is_bytes else "llama",
        pre=_pre_tokenizer(document) if is_bytes else None,
        texts=[texts.get(i, f"[PAD{i}]") for i in range(size)],
        scores=[-float(rank.get(texts.get(i, ""), len(merges))) for i in range(size)],
        types=[_type_of(texts.get(i), added.get(i), model) for i in range(size)],
        merges=[" ".join(pair) for pair in merges] if is_bytes else [],
    )


def _pre_tokenizer(document: Mapping[str, Any]) -> str:
    expressions = json.dumps(document.get("pre_tokenizer"))
    for part, name in _PRE_TOKENIZERS.items():
        if json.dumps(part)[1:-1] in expressions:
            return name
    raise RunError(f"{_FILE}: a pre-tokenizer that llama.cpp has no name for; leave it out")


def _type_of(text: str | None, added: Mapping[str, Any] | None, model: Mapping[str, Any]) -> int:
    if text is None or (added is not None and not added["special"]):
        return _USER_DEFINED
    if text == model.get("unk_token"):
        return _UNKNOWN
    if added is not None:
        return _CONTROL
    return _BYTE if model.get("byte_fallback") and _is_byte(text) else _NORMAL


def _is_byte(text: str) -> bool:
    return len(text) == 6 and text.startswith("<0x") and text.endswith(">")


def write_gguf(vocabulary: Vocabulary, path: Path) -> None:
    """Write a GGUF file without weights."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(vocabulary.model)
    if vocabulary.pre is not None:
        writer.add_tokenizer_pre(vocabulary.pre)
        writer.add_token_merges(vocabulary.merges)
    writer.add_token_list(list(vocabulary.texts))
    writer.add_token_scores(list(vocabulary.scores))
    writer.add_token_types(list(vocabulary.types))
    writer.add_add_space_prefix(False)
    writer.add_add_bos_token(False)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def _answer(folder: Path, questions: Questions) -> ReaderOutput:
    import llama_cpp

    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "vocabulary.gguf"
        write_gguf(vocabulary_of(json.loads((folder / _FILE).read_bytes())), path)
        model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    ids, decoded = [], []
    for text in questions.texts:
        found = model.tokenize(text.encode(), add_bos=False, special=True)
        ids.append([int(token) for token in found])
        decoded.append(model.detokenize(found).decode(errors="replace") if found else "")
    return ReaderOutput(ids, decoded)


READER = Reader(
    "llama.cpp", "llama-cpp-python", (_FILE,), _answer, runs_bundles=False, needs=("gguf",)
)
