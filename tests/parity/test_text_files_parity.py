"""What a build reads of text files against transformers: ids, chats, BOS, special tokens.

On pico and on the published tokenizers, as they are and with files missing or changed.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from pocketlm.edge_build.prompts import open_tokenizer
from pocketlm.models import shapes
from pocketlm.runtime_py.chat_template import ChatTemplate
from tests.assets import tokenizer_of
from tests.text_variants import (
    CONFIG,
    TEMPLATE,
    Change,
    added_only_up_to,
    decoder_of,
    edit,
    load,
    read,
    variant,
    without,
)

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
transformers = pytest.importorskip("transformers", "5.0")

TEXTS = (
    "Hello, world!  two spaces,\ttab\n\n\n    indented\r\n",
    "Größe, naïve café, nai\u0308ve cafe\u0301; 漢字 かな; עברית; हिन्दी; 한국어",
    "🙂👩‍👩‍👧🇺🇳 \u00a0\u3000\u2028 \ufeff \u200b",
    "<bos><start_of_turn>user\nhi<end_of_turn>\n<|im_start|>x<|im_end|>",
    "<b>1234567890</b> <unused3> <think>\n</think>",
    "def f(x):\n        return {'a': [1, 2.5e-3]}\n",
    "",
)
CHATS = (
    [{"role": "user", "content": "What is a list?"}],
    [
        {"role": "user", "content": " padded "},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes.\n"},
        {"role": "user", "content": "Ok\n\n"},
    ],
)
SHAPES = {"gemma3": "gemma-3-1b", "gemma2": "gemma-2-2b", "qwen3": "qwen3-0.6b"}
VARIANTS: Mapping[str, tuple[Change, ...]] = {
    "as published": (),
    "without tokenizer_config.json": (without(CONFIG),),
}


def checkpoint(folder: Path, family: str, *changes: Change) -> Path:
    """Join a published tokenizer with its model's config.json."""
    made = variant(folder, *changes, source=tokenizer_of(family))
    published = dict(shapes.load(SHAPES[family]).published)
    edit("config.json", **{**published, "eos_token_id": 1})(made)
    return made


def check(folder: Path) -> None:
    """Hold texts, chats and names against transformers'."""
    theirs, text = transformers.AutoTokenizer.from_pretrained(folder), read(folder)
    ours, rows = open_tokenizer(text), load(folder / "config.json")["vocab_size"]
    for string in TEXTS:
        expected = theirs(string, add_special_tokens=False).input_ids
        if max(expected, default=0) < rows:
            assert ours.encode(string) == expected, string
    begin = theirs("a").input_ids[:1]
    assert text.bos_id == (begin[0] if begin != ours.encode("a")[:1] else None)
    known = theirs.get_vocab()
    expected = {k: v for k, v in theirs.special_tokens_map.items() if known[v] < rows}
    assert {k: v for k, v in text.special_tokens.items() if k in expected} == expected
    if theirs.chat_template is not None:
        assert text.chat_template == theirs.chat_template
        template = ChatTemplate(text.chat_template, text.special_tokens)
        for chat in CHATS:
            rendered = template.render(chat)
            options = {"add_generation_prompt": True, "return_dict": False}
            assert ours.encode(rendered) == theirs.apply_chat_template(chat, **options)


# Gemma's tokenizers take transformers half a minute each.
@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("gemma3", "as published"),
        ("gemma2", "without tokenizer_config.json"),
        ("qwen3", "as published"),
        ("qwen3", "without tokenizer_config.json"),
    ],
)
def test_a_published_tokenizer_reads_as_in_transformers(
    family: str, name: str, tmp_path: Path
) -> None:
    check(checkpoint(tmp_path / "checkpoint", family, *VARIANTS[name]))


def test_gemma_3_1b_s_image_token_is_noted_and_read_as_text(tmp_path: Path) -> None:
    text = read(checkpoint(tmp_path / "checkpoint", "gemma3"))
    assert "read as ordinary text: <image_soft_token>" in " ".join(text.notes)
    ours = open_tokenizer(text)
    assert max(ours.encode("an <image_soft_token> here")) < 262144
    assert text.tokenizer_size <= 262144


SPECIALS = ((0, "<pad>"), (1, "<eos>"), (2, "<bos>"), (3, "<unk>"))
TURNS = ((4, "<start_of_turn>"), (5, "<end_of_turn>"))
PICO_VARIANTS: Mapping[str, tuple[Change, ...]] = {
    "as published": (),
    "no tokenizer_config.json": (without(CONFIG),),
    "no names at all": (without(CONFIG, "special_tokens_map.json"),),
    "no names but in tokenizer_config.json": (without("special_tokens_map.json"),),
    "no bos_token": (without("special_tokens_map.json"), edit(CONFIG, bos_token=None)),
    "a class of its own": (edit(CONFIG, tokenizer_class="PreTrainedTokenizerFast"),),
    "names that differ": (edit(CONFIG, eos_token="<end_of_turn>"),),
    "add_bos_token false": (edit(CONFIG, add_bos_token=False),),
    "tokens in the config alone": (
        added_only_up_to(3),
        edit(CONFIG, added_tokens_decoder=decoder_of(*SPECIALS, *TURNS)),
    ),
    "tokens that strip": (
        edit(CONFIG, added_tokens_decoder=decoder_of(*SPECIALS, *TURNS, lstrip=True)),
    ),
    "templates by name": (
        without(TEMPLATE),
        edit(
            CONFIG,
            chat_template=[
                {"name": "tool_use", "template": "tools"},
                {"name": "default", "template": "{{ eos_token }}{{ messages[0].content }}"},
            ],
        ),
    ),
}


@pytest.mark.parametrize("name", PICO_VARIANTS)
def test_changed_files_of_pico_read_as_in_transformers(name: str, tmp_path: Path) -> None:
    folder = variant(tmp_path / "checkpoint", *PICO_VARIANTS[name])
    if name == "templates by name":
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        assert read(folder).chat_template == theirs.get_chat_template()
    else:
        check(folder)
