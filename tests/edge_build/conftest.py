"""Fixtures of the build's tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.staged_build import StagedBuild, make_staged_build


@pytest.fixture
def staged_build(
    tmp_path: Path, tiny_checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> StagedBuild:
    """A build of a tiny model whose stages are doubles."""
    return make_staged_build(tmp_path, tiny_checkpoint("gemma3_text"), monkeypatch)
