"""Tokenizer, chat template and generation defaults for checkpoints with random weights.

Special tokens sit at the ids of the published tokenizers wherever the vocabulary reaches them,
so that stop ids and templates behave as with the real model. The rest of the vocabulary is made
up. Ids: facts of the published tokenizer_config.json and generation_config.json files.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, normalizers, pre_tokenizers, processors

from pocketlm.models.config import ModelConfig
from pocketlm.models.random_vocabulary import (
    Vocabulary,
    byte_level_alphabet,
    make_vocabulary,
    sentencepiece_alphabet,
)

_TEMPLATES = Path(__file__).parent / "chat_templates"
# https://huggingface.co/Qwen/Qwen3-0.6B/blob/main/tokenizer.json
_QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class TokenizerPlan:
    """What is particular to a family's tokenizer.

    Attributes:
        byte_level: bytes as visible characters (Qwen), else "<0x0A>" as a fallback (Gemma).
        size: how many ids the published tokenizer has at most; a model may have more rows.
        special: token → published id; never split and never made up by ordinary text.
        plain: further tokens with a published id.
        stops: tokens that end an answer, the first ends a turn or a text.
        sampling: the published defaults.
    """

    template: str
    tokenizer_class: str
    byte_level: bool
    size: int
    special: Mapping[str, int]
    plain: Mapping[str, int]
    bos: str | None
    pad: str
    stops: tuple[str, ...]
    sampling: Mapping[str, Any]


_GEMMA_SAMPLING = {"do_sample": True, "temperature": 1.0, "top_k": 64, "top_p": 0.95}
_GEMMA_START = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<mask>": 4}


def _gemma(size: int, turn: int, first_byte: int, special: Mapping[str, int]) -> TokenizerPlan:
    turns = {"<start_of_turn>": turn, "<end_of_turn>": turn + 1}
    return TokenizerPlan(
        template="gemma.jinja",
        tokenizer_class="GemmaTokenizer",
        byte_level=False,
        size=size,
        special={**_GEMMA_START, **turns, **special},
        plain={
            "\n": turn + 2,
            "\n\n": turn + 3,
            **{f"<0x{byte:02X}>": first_byte + byte for byte in range(256)},
        },
        bos="<bos>",
        pad="<pad>",
        stops=("<eos>", "<end_of_turn>"),
        sampling=_GEMMA_SAMPLING,
    )


_GEMMA3_IMAGE = {"<start_of_image>": 255_999, "<end_of_image>": 256_000}
_QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_QWEN_PLAIN = {"<tool_call>": 151_657, "</tool_call>": 151_658, "<think>": 151_667}

PLANS: Mapping[str, TokenizerPlan] = {
    "gemma2": _gemma(256_000, turn=106, first_byte=217, special={}),
    "gemma3_text": _gemma(262_144, turn=105, first_byte=238, special=_GEMMA3_IMAGE),
    "gemma3": _gemma(
        262_145,
        turn=105,
        first_byte=238,
        special={**_GEMMA3_IMAGE, "<image_soft_token>": 262_144},
    ),
    "qwen3": TokenizerPlan(
        template="qwen3.jinja",
        tokenizer_class="Qwen2Tokenizer",
        byte_level=True,
        size=151_669,
        special={token: 151_643 + index for index, token in enumerate(_QWEN_SPECIAL)},
        plain={**_QWEN_PLAIN, "</think>": 151_668},
        bos=None,
        pad="<|endoftext|>",
        stops=("<|im_end|>", "<|endoftext|>"),
        sampling={"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95},
    ),
}


def write_tokenizer(folder: Path, model_type: str, config: ModelConfig) -> None:
    """Write tokenizer.json, tokenizer_config.json, the template and generation_config.json."""
    plan = PLANS[model_type]
    space = "Ġ" if plan.byte_level else "▁"
    alphabet = byte_level_alphabet() if plan.byte_level else sentencepiece_alphabet(space)
    vocabulary = make_vocabulary(
        min(plan.size, config.vocab_size), _fixed(plan, config.vocab_size), alphabet, space
    )
    template = (_TEMPLATES / plan.template).read_text(encoding="utf-8")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    # A vocabulary has a quarter of a million lines; indenting it would double the file.
    _tokenizer(plan, vocabulary).save(str(folder / "tokenizer.json"), pretty=False)
    _write_json(
        folder / "tokenizer_config.json", _tokenizer_config(plan, config.max_position_embeddings)
    )
    _write_json(folder / "generation_config.json", _generation_config(plan, vocabulary))


def _fixed(plan: TokenizerPlan, vocab_size: int) -> dict[str, int]:
    published = {**plan.special, **plan.plain}
    if max(published.values()) < vocab_size:
        return published
    # A vocabulary made small for a test: the same tokens, as low as they go.
    kept = {**plan.special, **({} if not plan.byte_level else plan.plain)}
    return {token: number for number, token in enumerate(kept)}


def _generation_config(plan: TokenizerPlan, vocabulary: Vocabulary) -> dict[str, Any]:
    ids = vocabulary.ids
    return {
        "bos_token_id": ids[plan.bos or "<|endoftext|>"],
        "eos_token_id": [ids[token] for token in plan.stops],
        "pad_token_id": ids[plan.pad],
        **plan.sampling,
    }


def _tokenizer_config(plan: TokenizerPlan, max_tokens: int) -> dict[str, Any]:
    return {
        "tokenizer_class": plan.tokenizer_class,
        "add_bos_token": plan.bos is not None,
        "add_eos_token": False,
        "bos_token": plan.bos,
        "eos_token": plan.stops[0],
        "pad_token": plan.pad,
        "unk_token": "<unk>" if "<unk>" in plan.special else None,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_tokens,
    }


def _tokenizer(plan: TokenizerPlan, vocabulary: Vocabulary) -> tokenizers.Tokenizer:
    model = tokenizers.models.BPE(
        vocab=dict(vocabulary.ids),
        merges=[(left, right) for left, right in vocabulary.merges],
        unk_token=None if plan.byte_level else "<unk>",
        fuse_unk=not plan.byte_level,
        byte_fallback=not plan.byte_level,
    )
    tokenizer = tokenizers.Tokenizer(model)
    if plan.byte_level:
        _add_qwen_stages(tokenizer)
    else:
        _add_gemma_stages(tokenizer, vocabulary.ids["<bos>"])
    # Qwen's <think> and the like are never split, yet stay visible in decoded text.
    visible = plan.plain if plan.byte_level else {}
    added = sorted((*plan.special, *visible), key=lambda token: vocabulary.ids[token])
    tokenizer.add_tokens(
        [AddedToken(token, normalized=False, special=token in plan.special) for token in added]
    )
    return tokenizer


def _add_qwen_stages(tokenizer: tokenizers.Tokenizer) -> None:
    split = pre_tokenizers.Split(tokenizers.Regex(_QWEN_SPLIT), "isolated")
    bytes_as_text = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_as_text])
    tokenizer.post_processor = processors.ByteLevel(
        add_prefix_space=False, trim_offsets=False, use_regex=False
    )
    tokenizer.decoder = decoders.ByteLevel()


def _add_gemma_stages(tokenizer: tokenizers.Tokenizer, bos_id: int) -> None:
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", bos_id)]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
    path.write_text(text, encoding="utf-8")
