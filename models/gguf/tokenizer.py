"""Vocabulary, merges and special tokens of a GGUF file → the text files of a checkpoint.

tokenizer.json is the one of the tokenizers library: for Gemma ("llama", SentencePiece's BPE) and
for Qwen ("gpt2", bytes, with the pre-tokenizer "qwen2").
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pocketlm.models.errors import ModelError
from pocketlm.models.gguf.metadata import Metadata

# Kinds of tokens: llama.cpp's llama_token_type.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6
_SPACE = "▁"
# Qwen2Tokenizer of transformers 5.23; llama.cpp names it "qwen2".
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_DECODERS = (
    {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
)
_BYTE_LEVEL = {
    "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False
}  # fmt: skip
_NAMED = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}


def tokenizer_files(metadata: Metadata, rows: int) -> dict[str, bytes]:
    """Return the text files by name.

    Args:
        rows: of the model's vocabulary.

    Raises:
        ModelError: the vocabulary is of a kind that cannot be made exactly.
    """
    kind = metadata.get_text("tokenizer.ggml.model")
    tokens = metadata.get_list("tokenizer.ggml.tokens", str)
    types = metadata.get_list("tokenizer.ggml.token_type", int)
    if not 0 < len(tokens) == len(types) <= rows or len(set(tokens)) < len(tokens):
        raise metadata.error(
            "tokenizer.ggml.tokens", f"{len(tokens)} tokens", f"a list of at most {rows} texts"
        )
    if kind == "llama" and not metadata.find("tokenizer.ggml.add_space_prefix"):
        document = _sentencepiece(metadata, tokens, types)
    elif kind == "gpt2" and metadata.find("tokenizer.ggml.pre") == "qwen2":
        document = _byte_level(metadata, tokens, types)
    else:
        found = f"{kind!r} with pre={metadata.find('tokenizer.ggml.pre')!r}"
        raise ModelError(
            f"{metadata.path}: its tokenizer is {found}, which cannot be made exactly from the "
            "file; give the folder of the published tokenizer with --tokenizer FOLDER"
        )
    config = _tokenizer_config(metadata, tokens, adds_bos_alone=kind == "llama")
    if config["add_bos_token"] and "bos_token" in config:
        bos = config["bos_token"]
        document["post_processor"] = _bos_first(bos, tokens.index(bos))
    files = {
        "tokenizer.json": document,
        "tokenizer_config.json": config,
        "generation_config.json": _generation_config(metadata),
    }
    contents = {name: _json(value) for name, value in files.items()}
    template = metadata.find("tokenizer.chat_template")
    if isinstance(template, str):
        contents["chat_template.jinja"] = template.encode()
    return contents


def _sentencepiece(
    metadata: Metadata, tokens: Sequence[str], types: Sequence[int]
) -> dict[str, Any]:
    scores = metadata.get_list("tokenizer.ggml.scores", float)
    if len(scores) != len(tokens):
        raise metadata.error("tokenizer.ggml.scores", len(scores), "a score for each token")
    added = (_CONTROL, _USER_DEFINED)
    # The file writes runs of spaces as they are; the vocabulary has none.
    texts = [
        token.replace(" ", _SPACE) if kind == _USER_DEFINED else token
        for token, kind in zip(tokens, types, strict=True)
    ]
    ranks = {
        # SentencePiece gives added tokens the score 0; llama.cpp's converter another.
        text: 0.0 if kind in added else score
        for text, kind, score in zip(texts, types, scores, strict=True)
    }
    unknown = metadata.find_int("tokenizer.ggml.unknown_token_id")
    vocabulary, spaces = {text: index for index, text in enumerate(texts)}, {"String": " "}
    return {
        **_document(texts, types),
        "normalizer": {"type": "Replace", "pattern": spaces, "content": _SPACE},
        "pre_tokenizer": {
            "type": "Split", "pattern": spaces, "behavior": "MergedWithPrevious", "invert": False
        },
        "decoder": {"type": "Sequence", "decoders": [*_DECODERS]},
        "model": _bpe(
            vocabulary,
            _merges(vocabulary, ranks),
            unk_token=None if unknown is None else texts[unknown],
            fuse_unk=True,
            byte_fallback=_BYTE in types,
        ),
    }  # fmt: skip


def _merges(vocabulary: Mapping[str, int], scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return every pair of tokens that is a token, the one that SentencePiece merges first ahead.

    Pairs of one score, which make one token, come in the order of transformers' generate_merges.
    """
    pairs: list[tuple[str, str, float]] = []
    for text, score in scores.items():
        splits = [(text[:cut], text[cut:]) for cut in range(1, len(text))]
        known = [pair for pair in splits if pair[0] in vocabulary and pair[1] in vocabulary]
        known.sort(key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
        pairs += [(*pair, score) for pair in known]
    pairs.sort(key=lambda pair: (pair[2], len(pair[0]), len(pair[1])), reverse=True)
    return [(left, right) for left, right, _ in pairs]


def _byte_level(metadata: Metadata, tokens: Sequence[str], types: Sequence[int]) -> dict[str, Any]:
    merges = [tuple(text.split(" ")) for text in metadata.get_list("tokenizer.ggml.merges", str)]
    ids = {kind: [i for i, found in enumerate(types) if found == kind] for kind in set(types)}
    plain = [*ids.get(_NORMAL, ()), *ids.get(_UNKNOWN, ())]
    added = [*ids.get(_CONTROL, ()), *ids.get(_USER_DEFINED, ())]
    if sorted(added) != list(range(len(plain), len(plain) + len(added))):
        # The library numbers tokens that the vocabulary lacks from its end.
        plain += added
    vocabulary = {tokens[index]: index for index in sorted(plain)}
    if any(len(pair) != 2 or "".join(pair) not in vocabulary for pair in merges):
        raise metadata.error("tokenizer.ggml.merges", "something else", "a list of pairs of tokens")
    words = {"Regex": _QWEN2_WORDS}
    split = {"type": "Split", "pattern": words, "behavior": "Isolated", "invert": False}
    return {
        **_document(tokens, types),
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, _BYTE_LEVEL]},
        "post_processor": _BYTE_LEVEL,
        "decoder": _BYTE_LEVEL,
        "model": _bpe(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix=""),
    }


def _document(texts: Sequence[str], types: Sequence[int]) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": index, "content": text, **flags, "special": types[index] == _CONTROL}
        for index, text in enumerate(texts)
        if types[index] in (_CONTROL, _USER_DEFINED)
    ]
    nothing = {"truncation": None, "padding": None, "post_processor": None}
    return {"version": "1.0", **nothing, "added_tokens": added}


def _bpe(vocabulary: Mapping[str, int], merges: Sequence[Any], **changes: Any) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        **changes,
        "vocab": vocabulary,
        "merges": [list(pair) for pair in merges],
    }


def _bos_first(token: str, index: int) -> dict[str, Any]:
    def one(name: str, part: int) -> list[dict[str, Any]]:
        return [
            {"SpecialToken": {"id": token, "type_id": part}},
            {"Sequence": {"id": name, "type_id": part}},
        ]

    return {
        "type": "TemplateProcessing",
        "single": one("A", 0),
        "pair": one("A", 0) + one("B", 1),
        "special_tokens": {token: {"id": token, "ids": [index], "tokens": [token]}},
    }


def _tokenizer_config(
    metadata: Metadata, tokens: Sequence[str], *, adds_bos_alone: bool
) -> dict[str, Any]:
    """Return tokenizer_config.json.

    Args:
        adds_bos_alone: what this kind of tokenizer does where the file does not say it.
    """
    config: dict[str, Any] = {}
    for key, name in _NAMED.items():
        index = metadata.find_int(f"tokenizer.ggml.{key}_token_id")
        if index is not None:
            if index >= len(tokens):
                raise metadata.error(
                    f"tokenizer.ggml.{key}_token_id", index, f"an id below {len(tokens)}"
                )
            config[f"{name}_token"] = tokens[index]
    for name, default in (("bos", adds_bos_alone), ("eos", False)):
        found = metadata.find(f"tokenizer.ggml.add_{name}_token")
        config[f"add_{name}_token"] = default if found is None else bool(found)
    return config


def _generation_config(metadata: Metadata) -> dict[str, Any]:
    """Return generation_config.json: all tokens that end a turn."""
    ends = (metadata.find_int(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom"))
    return {"eos_token_id": list(dict.fromkeys(index for index in ends if index is not None))}


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()
