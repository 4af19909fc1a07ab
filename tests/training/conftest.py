"""A tiny training that every file can run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pocketlm.training.spec import QatSpec

MakeSpec = Callable[..., QatSpec]


@pytest.fixture
def make_spec(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> MakeSpec:
    """Return a spec of a few short steps; `family` chooses the checkpoint."""
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{n} little words in a row, and more.\n" for n in range(60)))

    def make(family: str = "gemma3_text", **changes: Any) -> QatSpec:
        small: dict[str, Any] = {
            "out": tmp_path / "trained",
            "text": text,
            "method": "round_to_nearest",
            "steps": 6,
            "batch": 4,
            "sequence_length": 16,
            "learning_rate": 0.05,
            "save_every": 2,
            "device": "cpu",
        }
        return QatSpec(tiny_checkpoint(family), **{**small, **changes})

    return make
