"""Settings that libraries take from the environment alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def environment_default(name: str, value: str) -> Iterator[None]:
    """Set a variable within the block. Who has set it already keeps that value."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


@contextmanager
def environment_kept() -> Iterator[None]:
    """Put the environment back as it was: torch, for one, adds a variable while it exports."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
