from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from pocketlm.runtime_py.typed_json import FieldError, load_object, read_as


@dataclass(frozen=True)
class Inner:
    size: int
    kind: Literal["ring", "linear"] = "ring"


@dataclass(frozen=True)
class Outer:
    name: str
    ratio: float
    limit: int | None
    inner: tuple[Inner, ...]
    named: Mapping[str, Inner]
    free: Mapping[str, Any]
    sizes: tuple[int | str, ...] = ()


def document(**changes: Any) -> dict[str, Any]:
    return {
        "name": "x",
        "ratio": 1,
        "limit": None,
        "inner": [{"size": 1}],
        "named": {"a": {"size": 2, "kind": "linear"}},
        "free": {"anything": [1, None]},
        **changes,
    }


def test_nested_values_are_built() -> None:
    assert read_as(Outer, document()) == Outer(
        "x", 1.0, None, (Inner(1),), {"a": Inner(2, "linear")}, {"anything": [1, None]}
    )


def test_either_of_two_types_is_read_as_it_is() -> None:
    assert read_as(Outer, document(sizes=[1, "new"])).sizes == (1, "new")


def test_unknown_keys_are_left_out() -> None:
    assert read_as(Inner, {"size": 1, "newer": True}) == Inner(1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 3}, "name: expected a string, found 3 (an integer)"),
        ({"ratio": "1"}, "ratio: expected a number, found '1' (a string)"),
        ({"ratio": True}, "ratio: expected a number, found True (true or false)"),
        ({"ratio": 10**400}, "ratio: 1000"),
        ({"limit": 2.5}, "limit: expected an integer, found 2.5 (a number)"),
        ({"limit": True}, "limit: expected an integer, found True"),
        ({"sizes": [1, 2.5]}, "sizes[1]: expected an integer or a string, found 2.5 (a number)"),
        ({"sizes": [None]}, "sizes[0]: expected an integer or a string, found None (null)"),
        ({"sizes": [True]}, "sizes[0]: expected an integer or a string, found True"),
        ({"inner": {}}, "inner: expected a list, found {} (an object)"),
        ({"inner": [{"size": 1}, {}]}, "inner[1].size is missing"),
        ({"inner": [3]}, "inner[0]: expected an object, found 3"),
        ({"named": {"a": {"size": None}}}, "named.a.size: expected an integer, found None (null)"),
        (
            {"inner": [{"size": 1, "kind": "round"}]},
            "inner[0].kind: expected one of ring, linear, found 'round' (a string)",
        ),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FieldError) as caught:
        read_as(Outer, document(**changes))
    assert message in str(caught.value)


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(FieldError) as caught:
        read_as(Inner, {"size": "x" * 10_000})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable as JSON"),
        ("[1]", "expected a JSON object, found [1]"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": -Infinity}', "-Infinity is not a JSON number"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' stands twice"),
        ("[" * 100_000, "not readable as JSON"),
    ],
)
def test_text_that_is_no_strict_json_object_is_refused(text: str, message: str) -> None:
    with pytest.raises(FieldError) as caught:
        load_object(text)
    assert message in str(caught.value)


def test_a_number_beyond_float_is_refused() -> None:
    with pytest.raises(FieldError, match="not a finite number"):
        read_as(Outer, document(ratio=load_object('{"a": 1e999}')["a"]))
