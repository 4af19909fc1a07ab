"""Fixtures of the build's tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workshop import Workshop, open_workshop


@pytest.fixture
def workshop(
    tmp_path: Path, tiny_checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Workshop:
    """A build of a tiny model whose stages are doubles."""
    return open_workshop(tmp_path, tiny_checkpoint("gemma3_text"), monkeypatch)
