"""The kinds of key/value caches: one file each, found by file name."""

import pkgutil
from collections.abc import Iterable
from importlib import import_module

from pocketlm.runtime_py.cache_layout import CacheLayout
from pocketlm.runtime_py.errors import RunError

# Of layers that see every position, and of layers with a window where a backend has no other wish.
GLOBAL, LOCAL = "linear", "ring"


def names() -> tuple[str, ...]:
    """Return the kinds that there are; an underscore marks a part of a kind."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def load(name: str) -> type[CacheLayout]:
    """Return the layouts of a kind.

    Raises:
        RunError: there is no such file.
    """
    if name not in names():
        raise RunError(
            f"cache kind {name!r} is unknown; known: {', '.join(names())}; update pocketlm"
        )
    kind: type[CacheLayout] = import_module(f"{__name__}.{name}").KIND
    return kind


def rewind_tokens(layouts: Iterable[CacheLayout]) -> int | None:
    """Return how far back caches can go together after any number of tokens; None is any."""
    limits = (layout.rewind_tokens for layout in layouts)
    return min((limit for limit in limits if limit is not None), default=None)


def rewind_error(layouts: Iterable[CacheLayout], length: int, target: int) -> str | None:
    """Say why caches cannot go from `length` tokens back to `target`; None if they can.

    Args:
        length: the most tokens they held since the last reset: what was overwritten on the way
            there stays lost, even after an earlier rewind.
    """
    lost = [layout for layout in layouts if not layout.can_rewind(length, target)]
    if not lost:
        return None
    strictest = max(lost, key=lambda layout: layout.earliest_rewind(length))
    return (
        f"rewind from {length} to {target}: a cache of {strictest.capacity} slots has overwritten "
        f"what position {target} has to see (a window of {strictest.window}); go back to "
        f"{strictest.earliest_rewind(length)} or later, or to 0"
    )
