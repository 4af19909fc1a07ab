"""JSON text → frozen dataclasses, by their annotations."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

_JSON_NAMES: Mapping[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    NoneType: "null",
}
_LONGEST_SHOWN = 60


class FieldError(ValueError):
    """One field of a document is not what its reader needs; the message names the field."""


def load_object(text: str) -> dict[str, Any]:
    """Parse a JSON object strictly: no NaN, no key twice.

    Raises:
        FieldError: the text is something else.
    """
    try:
        document = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except FieldError:
        raise
    except (ValueError, RecursionError) as error:
        raise FieldError(f"not readable as JSON ({error})") from error
    if not isinstance(document, dict):
        raise FieldError(f"expected a JSON object, found {_shown(document)}")
    return document


def read_as(kind: type[T], document: Any) -> T:
    """Build a dataclass from a parsed document; keys that it does not know are left out.

    Raises:
        FieldError: a field is missing or has another type.
    """
    return cast(T, _read(kind, document, ""))


def _read(kind: Any, value: Any, field: str) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _read_dataclass(kind, value, field)
    if origin in (Union, UnionType):
        if value is None and NoneType in get_args(kind):
            return None
        kinds = [choice for choice in get_args(kind) if choice is not NoneType]
        if len(kinds) > 1:
            return _read_scalar_of(kinds, value, field)
        return _read(kinds[0], value, field)
    if origin is Literal:
        choices = get_args(kind)
        if not isinstance(value, str) or value not in choices:
            known = ", ".join(choices)
            raise FieldError(f"{field}: expected one of {known}, found {_shown(value)}")
        return value
    if origin is tuple:
        element = get_args(kind)[0]
        items = _require(list, value, field)
        return tuple(_read(element, item, f"{field}[{i}]") for i, item in enumerate(items))
    if origin is Mapping:
        element = get_args(kind)[1]
        entries = _require(dict, value, field)
        return {key: _read(element, item, f"{field}.{key}") for key, item in entries.items()}
    return _read_scalar(kind, value, field)


def _read_dataclass(kind: Any, value: Any, field: str) -> Any:
    found = _require(dict, value, field)
    hints = _hints(kind)
    arguments = {}
    for entry in fields(kind):
        path = f"{field}.{entry.name}".lstrip(".")
        if entry.name in found:
            arguments[entry.name] = _read(hints[entry.name], found[entry.name], path)
        elif entry.default is MISSING and entry.default_factory is MISSING:
            raise FieldError(f"{path} is missing")
    return kind(**arguments)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    # Half the time of reading a manifest, whose entries are all of a few kinds.
    return get_type_hints(kind)


def _read_scalar_of(kinds: Sequence[type[Any]], value: Any, field: str) -> Any:
    if type(value) not in kinds:
        wanted = " or ".join(_JSON_NAMES[kind] for kind in kinds)
        raise FieldError(f"{field}: expected {wanted}, found {_shown(value)}")
    return value


def _read_scalar(kind: type[Any], value: Any, field: str) -> Any:
    if kind is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise FieldError(f"{field}: {_shown(value)} is too large for a number") from None
    if type(value) is not kind:
        raise FieldError(f"{field}: expected {_JSON_NAMES[kind]}, found {_shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise FieldError(f"{field}: {value} is not a finite number")
    return value


def _require(kind: type[T], value: Any, field: str) -> T:
    if not isinstance(value, kind):
        raise FieldError(
            f"{field or 'document'}: expected {_JSON_NAMES[kind]}, found {_shown(value)}"
        )
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    if len(text) > _LONGEST_SHOWN:
        text = text[:_LONGEST_SHOWN] + "…"
    return f"{text} ({_JSON_NAMES.get(type(value), type(value).__name__)})"


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Parsers disagree on which of two equal keys counts; a contract must not depend on that.
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise FieldError(f"key {twice!r} stands twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise FieldError(f"{name} is not a JSON number")
