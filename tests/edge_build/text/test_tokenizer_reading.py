"""Added tokens wherever they stand, and tokens that the model has no row for."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.prompts import open_tokenizer
from pocketlm.runtime_py.tokenizer import Tokenizer
from pocketlm.runtime_py.tokenizer_library import AddedToken, LibraryTokenizer
from tests.text_variants import (
    CONFIG,
    TOKENIZER,
    Change,
    added,
    added_only_up_to,
    decoder_of,
    edit,
    read,
    template,
    token_object,
    variant,
    without,
    write,
)

TURN = "<start_of_turn>user\nhi<end_of_turn>\n"
TURNS = ((4, "<start_of_turn>"), (5, "<end_of_turn>"))
SPECIALS = ((0, "<pad>"), (1, "<eos>"), (2, "<bos>"), (3, "<unk>"), *TURNS)


def tokenizer(folder: Path, *changes: Change, rows: int = 4096) -> Tokenizer:
    text = read(variant(folder, *changes), vocab_size=rows)
    assert text.tokenizer_size <= rows
    return open_tokenizer(text)


LATE_ONES_IN = {
    "added_tokens_decoder": edit(CONFIG, added_tokens_decoder=decoder_of(*SPECIALS)),
    "additional_special_tokens": edit(CONFIG, additional_special_tokens=[t for _, t in TURNS]),
    "extra_special_tokens": edit(CONFIG, extra_special_tokens=[t for _, t in TURNS]),
    "extra_special_tokens by name": edit(
        CONFIG, extra_special_tokens={"sot_token": TURNS[0][1], "eot_token": TURNS[1][1]}
    ),
    "special_tokens_map.json": edit(
        "special_tokens_map.json",
        additional_special_tokens=[token_object(i, t) for i, t in TURNS],
    ),
    "added_tokens.json": write("added_tokens.json", json.dumps({t: i for i, t in TURNS})),
}
NO_EXTRA = edit(CONFIG, drop=("additional_special_tokens",))


@pytest.mark.parametrize("place", LATE_ONES_IN)
def test_tokens_that_stand_elsewhere_get_their_ids(place: str, tmp_path: Path) -> None:
    changes = (added_only_up_to(3), NO_EXTRA, LATE_ONES_IN[place])
    found = tokenizer(tmp_path / "checkpoint", *changes)
    assert found.encode(TURN) == tokenizer(tmp_path / "plain").encode(TURN)
    notes = " ".join(read(tmp_path / "checkpoint").notes)
    assert "added from files beside it: <start_of_turn>, <end_of_turn>" in notes


def test_a_new_token_gets_the_next_row_of_a_padded_table(tmp_path: Path) -> None:
    new = edit(CONFIG, added_tokens_decoder=decoder_of(*SPECIALS, (4096, "<tool>")))
    assert tokenizer(tmp_path / "checkpoint", new, rows=4160).encode("<tool>") == [4096]


@pytest.mark.parametrize(
    ("file", "change"),
    [
        (CONFIG, edit(CONFIG, added_tokens_decoder=decoder_of((4100, "<tool>")))),
        ("added_tokens.json", write("added_tokens.json", '{"<tool>": 4100}')),
    ],
)
def test_a_token_that_would_get_another_id_is_refused(
    file: str, change: Change, tmp_path: Path
) -> None:
    with pytest.raises(BuildError, match=f"{file}: <tool> has the id 4100 there, .* gets 4096"):
        tokenizer(tmp_path / "checkpoint", change, rows=4160)


def test_flags_of_the_config_win_over_tokenizer_json_s(tmp_path: Path) -> None:
    stripping = edit(CONFIG, added_tokens_decoder=decoder_of(*SPECIALS[:-1], lstrip=True))
    found = tokenizer(tmp_path / "checkpoint", stripping)
    assert found.encode("a  <start_of_turn>") == [*found.encode("a"), 4]


def test_a_right_tokenizer_stays_as_it_was_published(tmp_path: Path) -> None:
    folder = variant(tmp_path / "checkpoint")
    text = read(folder)
    assert text.tokenizer_json() is None
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    text.copy_to(bundle)
    for name in (TOKENIZER, CONFIG):
        assert (bundle / name).read_bytes() == (folder / name).read_bytes()


IMAGE = "<image_soft_token>"


def test_a_token_without_a_row_is_read_as_text(tmp_path: Path) -> None:
    found = tokenizer(tmp_path / "checkpoint", added((4096, IMAGE)))
    assert max(found.encode(f"see {IMAGE} here")) < 4096
    assert found.decode(found.encode(f"see {IMAGE} here")) == f"see {IMAGE} here"
    assert f"read as ordinary text: {IMAGE}" in " ".join(read(tmp_path / "checkpoint").notes)


def test_rowless_tokens_of_other_files_are_read_as_text_too(tmp_path: Path) -> None:
    new = edit(CONFIG, added_tokens_decoder=decoder_of(*SPECIALS, (4096, IMAGE)))
    assert max(tokenizer(tmp_path / "checkpoint", new).encode(IMAGE)) < 4096


def test_many_rowless_tokens_are_counted(tmp_path: Path) -> None:
    many = added(*((4096 + i, f"<extra_{i}>") for i in range(100)))
    notes = " ".join(read(variant(tmp_path / "checkpoint", many)).notes)
    assert "<extra_7> and 92 more" in notes


def test_a_rowless_token_of_the_vocabulary_leaves_it(tmp_path: Path) -> None:
    def in_vocabulary(folder: Path) -> None:
        document = json.loads((folder / TOKENIZER).read_text())
        document["model"]["vocab"][IMAGE] = 4096
        (folder / TOKENIZER).write_text(json.dumps(document))

    changes = (in_vocabulary, added((4096, IMAGE)))
    assert max(tokenizer(tmp_path / "checkpoint", *changes).encode(IMAGE)) < 4096


NEEDED = {
    "in the template's text": template(lambda source: source.replace("<end_of_turn>", IMAGE)),
    "by a name": template(lambda source: source.replace("'<end_of_turn>\\n'", "image_token")),
}


@pytest.mark.parametrize("place", NEEDED)
def test_a_rowless_token_that_the_template_needs_is_refused(place: str, tmp_path: Path) -> None:
    changes = (added((4096, IMAGE)), edit(CONFIG, image_token=IMAGE), NEEDED[place])
    with pytest.raises(BuildError, match=f"the chat template uses {IMAGE}.*4096 rows"):
        read(variant(tmp_path / "checkpoint", *changes))


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="ids up to 4095, but the model has 4000 rows"):
        read(variant(tmp_path / "checkpoint"), vocab_size=4000)


def test_a_pad_token_without_a_row_is_left_out(tmp_path: Path) -> None:
    text = read(variant(tmp_path / "checkpoint", edit("generation_config.json", pad_token_id=4096)))
    assert text.pad_id is None
    assert "pad_token_id 4096 has no row" in " ".join(text.notes)


BROKEN = {
    "a list": ([], "must be an object"),
    "a word as id": ({"x": decoder_of((1, "<eos>"))["1"]}, "must be a whole number"),
    "a text as token": ({"1": "<eos>"}, "must be an object with the token's content"),
    "a number as flag": ({"1": {"content": "<eos>", "lstrip": 1}}, "content and its flags"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_list_of_added_tokens_is_refused(name: str, tmp_path: Path) -> None:
    value, words = BROKEN[name]
    with pytest.raises(BuildError, match=rf"tokenizer_config\.json: added_tokens_decoder.*{words}"):
        read(variant(tmp_path / "checkpoint", edit(CONFIG, added_tokens_decoder=value)))


@pytest.mark.parametrize("index", [-1, "5", True])
def test_a_broken_added_tokens_json_is_refused(index: object, tmp_path: Path) -> None:
    broken = write("added_tokens.json", json.dumps({"<tool>": index}))
    with pytest.raises(BuildError, match=r"added_tokens\.json: <tool> has the id"):
        read(variant(tmp_path / "checkpoint", broken))


@pytest.mark.parametrize("name", [CONFIG, "special_tokens_map.json", "added_tokens.json"])
@pytest.mark.parametrize(
    "text", ["[]", "{", "[" * 100_000, '{"a": ' + "9" * 5000 + "}", '{"a": ["\\ud800"]}']
)
def test_files_that_are_no_json_object_are_refused(name: str, text: str, tmp_path: Path) -> None:
    folder = variant(tmp_path / "checkpoint", write(name, text))
    with pytest.raises(BuildError, match=f"{name}: (holds a list|cannot be read as JSON)"):
        read(folder)


def test_text_config_null_is_no_obstacle(tmp_path: Path) -> None:
    folder = variant(tmp_path / "checkpoint", edit("config.json", text_config=None))
    assert read(folder).stop_ids == (1, 5)


def test_an_empty_folder_of_names_still_reads(tmp_path: Path) -> None:
    folder = variant(tmp_path / "checkpoint", without(CONFIG, "special_tokens_map.json"))
    assert read(folder).bos_id == 2


def test_tokens_of_other_files_are_added_in_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each call rebuilds the search for all of them: with Gemma 3's 6,415, minutes.
    calls = []
    add_tokens = LibraryTokenizer.add_tokens

    def counted(tokenizer: LibraryTokenizer, tokens: Sequence[AddedToken]) -> None:
        calls.append(len(tokens))
        add_tokens(tokenizer, tokens)

    monkeypatch.setattr(LibraryTokenizer, "add_tokens", counted)
    read(variant(tmp_path / "checkpoint", LATE_ONES_IN["added_tokens_decoder"]))
    assert len(calls) == 1 and calls[0] > 1
