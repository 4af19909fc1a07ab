"""What ends a turn ends an answer."""

from pathlib import Path

import pytest

from pocketlm.edge_build.errors import BuildError
from tests.text_variants import (
    CONFIG,
    GENERATION,
    TEMPLATE,
    Change,
    added,
    edit,
    read,
    template,
    variant,
    without,
    write,
)

ONLY_EOS = edit(GENERATION, eos_token_id=1)


def turns(end: str, before_next: str = "") -> str:
    return (
        "{{ bos_token }}{% for m in messages %}"
        f"{{{{ '{before_next}' if not loop.first }}}}<start_of_turn>{{{{ m.role }}}}\n"
        f"{{{{ m.content }}}}{end}{{% endfor %}}"
    )


# Stop ids of pico with published stop id 1.
ENDINGS: dict[str, tuple[tuple[Change, ...], tuple[int, ...]]] = {
    "pico's own template": ((), (1, 5)),
    "the variable eos_token": (
        (
            template(lambda s: s.replace("'<end_of_turn>\\n'", "eos_token + '\\n'")),
            edit(CONFIG, eos_token="<end_of_turn>"),
            edit("special_tokens_map.json", eos_token="<end_of_turn>"),
        ),
        (1, 5),
    ),
    "pieces put together": ((write(TEMPLATE, turns("{{ '<end_of' ~ '_turn>' }}")),), (1, 5)),
    "a space before it": ((write(TEMPLATE, turns(" <end_of_turn>")),), (1, 5)),
    "a line before it": ((write(TEMPLATE, turns("\n<end_of_turn>\n")),), (1, 5)),
    "what follows only where another turn does": (
        (write(TEMPLATE, turns("", before_next="<end_of_turn>")),),
        (1, 5),
    ),
    "the next turn's begin": ((write(TEMPLATE, turns("")),), (1, 4)),
    "a published stop id": ((write(TEMPLATE, turns("<eos>")),), (1,)),
    "a token that is not special": (
        (added((4096, "</turn>"), special=False), write(TEMPLATE, turns("</turn>"))),
        (1, 4096),
    ),
    "one question only": (
        (template(lambda s: "{{ raise_exception('once') if messages | length > 1 }}" + s),),
        (1, 5),
    ),
    "no token": ((write(TEMPLATE, turns("\n###\n").replace("<start_of_turn>", "")),), (1,)),
    "no template": ((without(TEMPLATE),), (1,)),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_answers_end_with(name: str, tmp_path: Path) -> None:
    changes, expected = ENDINGS[name]

    text = read(variant(tmp_path / "checkpoint", ONLY_EOS, *changes), vocab_size=4160)
    assert text.stop_ids == expected
    new = [note for note in text.notes if "added to the stop ids" in note]
    assert len(new) == len(expected) - 1


def test_a_turn_that_ends_with_no_token_is_noted(tmp_path: Path) -> None:
    changes, _ = ENDINGS["no token"]
    notes = " ".join(read(variant(tmp_path / "checkpoint", ONLY_EOS, *changes)).notes)
    assert "ends turns with '###', which is no token: answers may go on" in notes


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ((edit(GENERATION, eos_token_id=[5, 1, 5]),), (5, 1)),
        ((edit(GENERATION, eos_token_id=None), edit("config.json", eos_token_id=5)), (5,)),
        ((without(GENERATION), edit("config.json", eos_token_id=[1, 5])), (1, 5)),
        ((edit(GENERATION, eos_token_id=5), edit("config.json", eos_token_id=9999)), (5,)),
        (
            (
                without(GENERATION, TEMPLATE),
                edit("config.json", drop=("eos_token_id",)),
            ),
            (1,),
        ),
        ((without(GENERATION), edit("config.json", drop=("eos_token_id",))), (1, 5)),
    ],
)
def test_published_stop_ids_come_from_the_first_file_that_has_any(
    changes: tuple[Change, ...], expected: tuple[int, ...], tmp_path: Path
) -> None:
    assert read(variant(tmp_path / "checkpoint", *changes)).stop_ids == expected


WRONG: list[tuple[object, str]] = [
    (True, "must be a token id or a list"),
    ("1", "must be a token id or a list"),
    (-1, "must be a token id or a list"),
    (1.0, "must be a token id or a list"),
    ([1, "x"], "must be a token id or a list"),
    ({"id": 1}, "must be a token id or a list"),
    (4096, "has 4096, but the model has 4096 rows"),
    ([1, 151645], "has 151645, but the model has 4096 rows"),
    (10**30, "but the model has 4096 rows"),
]


@pytest.mark.parametrize(("value", "words"), WRONG)
@pytest.mark.parametrize("file", [GENERATION, "config.json"])
def test_a_wrong_stop_id_is_refused(file: str, value: object, words: str, tmp_path: Path) -> None:
    drop = edit(GENERATION, drop=("eos_token_id",))
    with pytest.raises(BuildError, match=rf"{file}: eos_token_id .*{words}"):
        read(variant(tmp_path / "checkpoint", drop, edit(file, eos_token_id=value)))
