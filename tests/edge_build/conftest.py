"""Fixtures of the build's tests."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pocketlm.runtime_py import chat_template
from pocketlm.runtime_py.chat_template import RenderLimits
from tests.staged_build import StagedBuild, make_staged_build

_rendered: dict[str, dict[str, Any]] = {}
_ask_renderer = chat_template._ask_renderer


@pytest.fixture(autouse=True)
def _rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start one process for chats that many tests render at the same recorded moment."""

    def ask(request: Mapping[str, Any], limits: RenderLimits) -> dict[str, Any]:
        if request["moment"] is None:
            return _ask_renderer(request, limits)
        key = json.dumps(request)
        if key not in _rendered:
            _rendered[key] = _ask_renderer(request, limits)
        return _rendered[key]

    monkeypatch.setattr(chat_template, "_ask_renderer", ask)


@pytest.fixture
def staged_build(
    tmp_path: Path, tiny_checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> StagedBuild:
    """A build of a tiny model whose stages are doubles."""
    return make_staged_build(tmp_path, tiny_checkpoint("gemma3_text"), monkeypatch)
