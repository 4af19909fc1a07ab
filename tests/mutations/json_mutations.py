"""Seeded changes of a JSON text: odd values, keys lost, doubled or renamed, broken bytes."""

import json
from random import Random
from typing import Any

# Written as they stand: json.dumps knows no way to write most of them.
_ODD_TEXTS = (
    "null", "true", "false", "0", "-1", "1", "3", "-0.0", "0.5", "1e-320", "1e400", "-1e400",
    "NaN", "Infinity", "-Infinity", "2147483647", "2147483648", "9223372036854775808",
    "1" + "0" * 309, "9" * 5000, '""', '"x"', '"\\u0000"', '"\\ud800"', '"\\u001b[31mred"',
    '"\u009b31m\u202e"', '"../x"', '"/etc/hostname"', '"none"', '"float32"', '"' + "a" * 5000 + '"',
    "[]", "{}", '["x"]', "[null]", "[-1]", "[1, [2]]", '{"x": 1}', '{"content": 3}',
    "[" * 2000 + "]" * 2000, "[" * 100_000 + "]" * 100_000, '{"a":' * 3000 + "1" + "}" * 3000,
)  # fmt: skip

_Path = tuple[str | int, ...]


class _Written(str):
    """JSON text that goes into the document as it is."""


def mutate_json(text: str, random: Random) -> bytes:
    """Return the document after one to three changes; sometimes its bytes are broken too."""
    document = json.loads(text)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        document = _changed(document, random)
    changed = _write(document, random)
    if random.random() < 0.1:
        return mutate_bytes(changed.encode("utf-8", "surrogatepass"), random)
    return changed.encode("utf-8", "surrogatepass")


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """Return the bytes after one change."""
    place = random.randrange(len(data) + 1)
    change = random.randrange(8)
    if change == 0:
        return data[:place]
    if change == 1:
        return data[:place] + bytes([random.randrange(256)]) + data[place + 1 :]
    if change == 2:
        return data[:place] + random.randbytes(random.randrange(1, 9)) + data[place:]
    if change == 3:
        return data[:place] + data[place + random.randrange(1, 40) :]
    if change == 4:
        return b"\xef\xbb\xbf" + data
    if change == 5:
        return data.decode("utf-8", "replace").encode("utf-16")
    if change == 6:
        return b""
    return data[:place] + bytes([0x80 | random.randrange(128)]) + data[place:]


def _changed(document: Any, random: Random) -> Any:
    path = _path(document, random)
    change = random.random()
    if change < 0.35:
        return _with(document, path, _Written(random.choice(_ODD_TEXTS)))
    if change < 0.42:
        return _without(document, path)
    if change < 0.48:
        return _with(document, path, _at(document, _path(document, random)))
    if change < 0.52 and path and isinstance(path[-1], str):
        twice = _write({path[-1]: _at(document, path)}, random)[1:-1]
        return _with(document, path[:-1], _Written("{" + twice + ", " + twice + "}"))
    return _with(document, path, _near(_at(document, path), random))


def _near(value: Any, random: Random) -> Any:
    """Return another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float) and not isinstance(value, _Written):
        near = (value + 1, value - 1, 2 * value, -value, value * 1000, 0.3, str(value))
        return random.choice((*near, 0, 1, -1, 2**31, 2**40, 2**63, 10**30, 10**310))
    if isinstance(value, str) and not isinstance(value, _Written):
        place = random.randrange(len(value) + 1)
        odd = random.choice(("", "\x1b[2J", "\n", "/", "..", "\u202e", "{", "é", " "))
        return value[:place] + odd + value[place + random.randrange(2) :]
    if isinstance(value, list):
        return random.choice((value[1:], value + value[:1], value * 3, list(reversed(value))))
    if isinstance(value, dict):
        return list(value.values())
    return [value]


def _path(document: Any, random: Random) -> _Path:
    """Choose a place from the top down, so that a long list does not hide what stands beside it."""
    path: _Path = ()
    while isinstance(document, dict | list) and document and random.random() < 0.9:
        keys: list[Any] = list(document) if isinstance(document, dict) else [*range(len(document))]
        path = (*path, random.choice(keys))
        document = document[path[-1]]
    return path


def _at(document: Any, path: _Path) -> Any:
    for key in path:
        document = document[key]
    return document


def _with(document: Any, path: _Path, value: Any) -> Any:
    if not path:
        return value
    key, rest = path[0], path[1:]
    if isinstance(document, dict):
        return {**document, key: _with(document[key], rest, value)}
    changed = list(document)
    changed[int(key)] = _with(changed[int(key)], rest, value)
    return changed


def _without(document: Any, path: _Path) -> Any:
    if not path:
        return {}
    parent = _at(document, path[:-1])
    if isinstance(parent, dict):
        return _with(document, path[:-1], {k: v for k, v in parent.items() if k != path[-1]})
    index = int(path[-1])
    return _with(document, path[:-1], parent[:index] + parent[index + 1 :])


def _write(value: Any, random: Random) -> str:
    if isinstance(value, _Written):
        return str(value)
    if isinstance(value, dict):
        inside = (f"{json.dumps(key)}: {_write(item, random)}" for key, item in value.items())
        return "{" + ", ".join(inside) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_write(item, random) for item in value) + "]"
    return json.dumps(value)
