"""BOS is what the tokenizer adds, whatever numbers stand in configs."""

from pathlib import Path
from typing import Any

import pytest

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.prompts import open_tokenizer
from tests.text_variants import (
    CONFIG,
    GENERATION,
    TOKENIZER,
    Change,
    added,
    decoder_of,
    edit,
    read,
    variant,
    without,
    write,
)

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PAD = {
    "strategy": {"Fixed": 32},
    "direction": "Left",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "<pad>",
}
CUT = {"direction": "Right", "max_length": 32, "strategy": "LongestFirst", "stride": 0}


def begins_with(*tokens: tuple[str, int], ends: tuple[str, int] | None = None) -> dict[str, Any]:
    """Return a post-processor that puts tokens around a text, and something else around pairs."""

    def piece(token: str) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": 0}}

    text = {"Sequence": {"id": "A", "type_id": 0}}
    single = [*(piece(token) for token, _ in tokens), text]
    known = [*tokens]
    if ends is not None:
        single.append(piece(ends[0]))
        known.append(ends)
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {t: {"id": t, "ids": [i], "tokens": [t]} for t, i in known},
    }


def processor(value: dict[str, Any] | None) -> Change:
    return edit(TOKENIZER, post_processor=value)


SEQUENCE = {"type": "Sequence", "processors": [BYTES, begins_with(("<bos>", 2))]}
NO_ADD_KEY = edit(CONFIG, drop=("add_bos_token",))

FOUND: dict[str, tuple[tuple[Change, ...], int | None]] = {
    "as published": ((), 2),
    "no config names an id": (
        (
            edit("config.json", drop=("bos_token_id",)),
            edit(GENERATION, drop=("bos_token_id",)),
        ),
        2,
    ),
    "configs name another id": (
        (edit("config.json", bos_token_id=7), edit(GENERATION, bos_token_id=8)),
        2,
    ),
    "no tokenizer_config.json": ((without(CONFIG),), 2),
    "padding and truncation": ((NO_ADD_KEY, edit(TOKENIZER, padding=PAD, truncation=CUT)), 2),
    "a sequence of processors": ((NO_ADD_KEY, processor(SEQUENCE)), 2),
    "another token than bos_token": ((processor(begins_with(("<pad>", 0))),), 0),
    "add_bos_token false beside a processor": ((edit(CONFIG, add_bos_token=False),), 2),
    "add_bos_token without a processor": ((processor(None),), 2),
    "add_bos_token beside bytes alone": ((processor(BYTES),), 2),
    "the token as an object": (
        (processor(None), edit(CONFIG, bos_token={"content": "<bos>", "special": True})),
        2,
    ),
    "nothing adds one": ((NO_ADD_KEY, processor(None)), None),
    "add_bos_token false without a processor": (
        (edit(CONFIG, add_bos_token=False), processor(None)),
        None,
    ),
    "add_bos_token without a name": (
        (
            processor(None),
            without("special_tokens_map.json"),
            edit(CONFIG, bos_token=None),
        ),
        None,
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_bos_comes_from_the_tokenizer(name: str, tmp_path: Path) -> None:
    changes, expected = FOUND[name]
    text = read(variant(tmp_path / "checkpoint", *changes))
    assert text.bos_id == expected
    prompt = open_tokenizer(text).encode_prompt("hello")
    assert (prompt[0] == expected) is (expected is not None)


NOTED = {
    "add_bos_token false beside a processor": "add_bos_token false, but tokenizer.json begins",
    "add_bos_token without a processor": "<bos> begins prompts as tokenizer_config.json says",
    "add_bos_token without a name": "says add_bos_token, but no file names a bos_token",
}


@pytest.mark.parametrize("name", NOTED)
def test_what_the_files_contradict_is_noted(name: str, tmp_path: Path) -> None:
    changes, _ = FOUND[name]
    notes = " ".join(read(variant(tmp_path / "checkpoint", *changes)).notes)
    assert NOTED[name] in notes


def test_padding_and_truncation_never_apply(tmp_path: Path) -> None:
    folder = variant(tmp_path / "checkpoint", edit(TOKENIZER, padding=PAD, truncation=CUT))
    text = read(folder)
    assert len(open_tokenizer(text).encode("word " * 100)) > 90
    assert open_tokenizer(text).encode("hello") == open_tokenizer(
        read(variant(tmp_path / "plain"))
    ).encode("hello")
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    text.copy_to(bundle)
    assert '"padding": null' in (bundle / TOKENIZER).read_text()


def test_what_the_tokenizer_puts_behind_a_text_is_left_out(tmp_path: Path) -> None:
    ends = processor(begins_with(("<bos>", 2), ends=("<eos>", 1)))
    text = read(variant(tmp_path / "checkpoint", ends))
    assert text.bos_id == 2
    assert open_tokenizer(text).encode_prompt("hello")[-1] != 1
    assert "ends every text with <eos>, left out" in " ".join(text.notes)


def test_several_tokens_before_a_text_are_refused(tmp_path: Path) -> None:
    two = processor(begins_with(("<bos>", 2), ("<pad>", 0)))
    with pytest.raises(BuildError, match="begins every text with <bos> <pad>; pocketlm begins"):
        read(variant(tmp_path / "checkpoint", two))


def test_bos_without_a_row_is_refused(tmp_path: Path) -> None:
    changes = (added((4096, "<s>")), processor(begins_with(("<s>", 4096))))
    with pytest.raises(BuildError, match=r"begins every text with <s>, id 4096, but the model"):
        read(variant(tmp_path / "checkpoint", *changes))


NAMED: dict[str, tuple[tuple[Change, ...], str | None]] = {
    "tokenizer_config.json": ((without("special_tokens_map.json"),), "<bos>"),
    "an object in it": (
        (without("special_tokens_map.json"), edit(CONFIG, bos_token={"content": "<bos>"})),
        "<bos>",
    ),
    "special_tokens_map.json": ((without(CONFIG),), "<bos>"),
    "an object in the map": (
        (without(CONFIG), edit("special_tokens_map.json", bos_token={"content": "<pad>"})),
        "<pad>",
    ),
    "the map before the config": ((edit(CONFIG, bos_token="<pad>"),), "<bos>"),
    "not the map where the config lists tokens": (
        (edit(CONFIG, bos_token="<pad>", added_tokens_decoder=decoder_of((2, "<bos>"))),),
        "<pad>",
    ),
    "the class's default": ((without(CONFIG, "special_tokens_map.json"),), "<bos>"),
    "the text of bos_token_id": (
        (
            without("special_tokens_map.json"),
            edit("config.json", bos_token_id=0),
            edit(GENERATION, drop=("bos_token_id",)),
            edit(CONFIG, drop=("bos_token",), tokenizer_class="PreTrainedTokenizerFast"),
        ),
        "<pad>",
    ),
    "nothing where a file says so": (
        (without("special_tokens_map.json"), edit(CONFIG, bos_token=None)),
        None,
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_templates_read_bos_token_from(name: str, tmp_path: Path) -> None:
    changes, expected = NAMED[name]
    text = read(variant(tmp_path / "checkpoint", *changes))
    assert text.special_tokens.get("bos_token") == expected
    assert text.chats[0].rendered.startswith(f"{expected or ''}<start_of_turn>")


def test_the_bundle_names_the_tokens_that_the_checkpoint_named_elsewhere(tmp_path: Path) -> None:
    text = read(variant(tmp_path / "checkpoint", without(CONFIG)))
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    text.copy_to(bundle)
    assert '"bos_token": "<bos>"' in (bundle / CONFIG).read_text()


@pytest.mark.parametrize("name", ["bos_token", "sep_token", "pad_token"])
def test_a_name_that_the_template_reads_in_vain_is_noted(name: str, tmp_path: Path) -> None:
    changes = (
        without("special_tokens_map.json"),
        edit(CONFIG, **{name: None}),
        write("chat_template.jinja", f"{{{{ {name} }}}}{{{{ messages[0].content }}}}"),
    )
    notes = " ".join(read(variant(tmp_path / "checkpoint", *changes)).notes)
    assert f"names {name}, but the tokenizer has none: it renders as nothing" in notes


@pytest.mark.parametrize("value", [2, ["<bos>"], {"text": "<bos>"}, True])
def test_a_name_that_stands_for_no_text_is_refused(value: object, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"tokenizer_config\.json: bos_token is .*token's text"):
        read(variant(tmp_path / "checkpoint", edit(CONFIG, bos_token=value)))
