"""tokenizer.json from a GGUF file's vocabulary reads text as the tokenizer that it came from."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from pocketlm.models.errors import ModelError
from pocketlm.models.gguf.metadata import Metadata
from pocketlm.models.gguf.tokenizer import tokenizer_files
from tests.assets import tokenizer_of

TEXTS = (
    "A plain sentence, with 1234 numbers.",
    "  spaces   in runs\n\n\nand lines\t\ttabs",
    "café, 日本語, 🙂 and \x07",
    "<bos><start_of_turn>user\n<b>x</b><end_of_turn><|im_start|>",
    "",
)
NORMAL, CONTROL, USER, UNUSED, BYTE = 1, 3, 4, 5, 6


@dataclass(frozen=True)
class Field:
    """A field as the package gguf has it."""

    value: Any

    def contents(self) -> Any:
        return self.value


def metadata_of(document: Mapping[str, Any], kind: str, rows: int, **more: Any) -> Metadata:
    """Return what llama.cpp's converter writes of a tokenizer.json."""
    model = document["model"]
    added = {token["id"]: token for token in document["added_tokens"]}
    texts = {index: text for text, index in model["vocab"].items()}
    texts |= {index: token["content"] for index, token in added.items()}
    ids = range(min(rows, 1 + max(texts)))
    merges = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(merges):
        ranks.setdefault("".join(pair), rank)

    def kind_of(index: int) -> int:
        if index not in texts:
            return UNUSED
        if index in added:
            return CONTROL if added[index]["special"] else USER
        return BYTE if texts[index].startswith("<0x") else NORMAL

    values = {
        "tokenizer.ggml.model": kind,
        "tokenizer.ggml.tokens": [texts.get(i, f"[PAD{i}]").replace("▁▁", "  ") for i in ids],
        "tokenizer.ggml.token_type": [kind_of(i) for i in ids],
        "tokenizer.ggml.scores": [-float(ranks.get(texts.get(i, ""), 0)) for i in ids],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in merges],
        **{f"tokenizer.{key}": value for key, value in more.items()},
    }
    if kind == "llama":
        values["tokenizer.ggml.tokens"] = [
            texts[i].replace("▁", " ") if kind_of(i) == USER else texts[i] for i in ids
        ]
    return Metadata(Path("model.gguf"), {key: Field(value) for key, value in values.items()})


def assert_reads_alike(found: str, published: str) -> None:
    ours = tokenizers.Tokenizer.from_str(found)
    theirs = tokenizers.Tokenizer.from_str(published)
    for text in TEXTS:
        assert ours.encode(text).ids == theirs.encode(text).ids
        ids = theirs.encode(text).ids
        assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize(("family", "kind"), [("gemma3_text", "llama"), ("qwen3", "gpt2")])
def test_text_is_read_as_by_the_tokenizer_that_was_converted(
    tiny_checkpoint: Callable[[str], Path], family: str, kind: str
) -> None:
    published = (tiny_checkpoint(family) / "tokenizer.json").read_text()
    more = {"ggml.pre": "qwen2"} if kind == "gpt2" else {"ggml.bos_token_id": 2}
    metadata = metadata_of(json.loads(published), kind, 10_000, **more)
    files = tokenizer_files(metadata, 10_000)
    assert_reads_alike(files["tokenizer.json"].decode(), published)


@pytest.mark.assets_heavy
@pytest.mark.parametrize(("family", "kind"), [("gemma2", "llama"), ("qwen3", "gpt2")])
def test_published_tokenizers_come_back_whole(family: str, kind: str) -> None:
    published = (tokenizer_of(family) / "tokenizer.json").read_text()
    document = json.loads(published)
    more = {"ggml.pre": "qwen2"} if kind == "gpt2" else {"ggml.bos_token_id": 2}
    rows = 1 + max(document["model"]["vocab"].values())
    rows = max(rows, *(1 + token["id"] for token in document["added_tokens"]))
    files = tokenizer_files(metadata_of(document, kind, rows, **more), rows)
    found = json.loads(files["tokenizer.json"])
    assert found["model"]["vocab"] == document["model"]["vocab"]
    assert found["added_tokens"] == document["added_tokens"]
    assert_reads_alike(files["tokenizer.json"].decode(), published)


def small(**changes: Any) -> Metadata:
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", "a", "b", "ab", "▁ab", "  "]
    values = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [CONTROL] * 4 + [NORMAL] * 5 + [USER],
        "tokenizer.ggml.scores": [0.0] * 4 + [-9.0, -9.0, -9.0, -1.0, -2.0, 0.0],
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.eot_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.chat_template": "{{ messages }}",
        **{f"tokenizer.{key}": value for key, value in changes.items()},
    }
    fields = {key: Field(value) for key, value in values.items() if value is not None}
    return Metadata(Path("model.gguf"), fields)


def test_files_say_what_the_metadata_say() -> None:
    files = tokenizer_files(small(), 10)
    config = json.loads(files["tokenizer_config.json"])
    assert config == {
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "add_eos_token": False,
    }
    assert json.loads(files["generation_config.json"]) == {"eos_token_id": [1, 0]}
    assert files["chat_template.jinja"] == b"{{ messages }}"
    encoded = tokenizers.Tokenizer.from_str(files["tokenizer.json"].decode()).encode("ab ab  a")
    assert encoded.ids == [2, 7, 8, 9, 5]


def test_without_bos_nothing_is_put_ahead() -> None:
    files = tokenizer_files(small(**{"ggml.add_bos_token": False}), 10)
    encoded = tokenizers.Tokenizer.from_str(files["tokenizer.json"].decode()).encode("ab")
    assert encoded.ids == [7]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"ggml.model": "bert"}, "its tokenizer is 'bert' with pre=None, which cannot be made exactly"),
    ({"ggml.add_space_prefix": True}, "its tokenizer is 'llama' with pre=None, which cannot"),
    ({"ggml.model": "gpt2", "ggml.pre": "gpt-2"}, "its tokenizer is 'gpt2' with pre='gpt-2', "),
    ({"ggml.tokens": None}, "tokenizer.ggml.tokens is missing, but a list of str is needed"),
    ({"ggml.tokens": ["a"] * 10}, "tokenizer.ggml.tokens is '10 tokens', but a list of at most 10"),
    ({"ggml.scores": [0.0]}, "tokenizer.ggml.scores is 1, but a score for each token is needed"),
    ({"ggml.bos_token_id": 10}, "tokenizer.ggml.bos_token_id is 10, but an id below 10 is needed"),
    (
        {"ggml.model": "gpt2", "ggml.pre": "qwen2", "ggml.merges": ["a c"]},
        "tokenizer.ggml.merges is 'something else', but a list of pairs of tokens is needed",
    ),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=str)
def test_a_tokenizer_that_cannot_be_made_exactly_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError) as failure:
        tokenizer_files(small(**changes), 10)
    assert str(failure.value).startswith(f"model.gguf: {message}")
