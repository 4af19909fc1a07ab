"""What makes an interrupted build start over, and what does not.

Stages are doubles that write a few bytes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.staged_build import STAGES, StagedBuild


@pytest.mark.parametrize(
    "change",
    [
        {"context_length": 63},
        {"chunk": 7},
        {"recipe": "int8-channel"},
        {"golden_tokens": 3},
        {"backends": ("onnx",)},
        {"backend_options": {"onnx": {"local-cache": "ring"}}},
    ],
    ids=str,
)
def test_other_options_start_over(staged_build: StagedBuild, change: dict[str, Any]) -> None:
    staged_build.build_until("golden", KeyboardInterrupt())
    staged_build.build(**change)
    assert "quantize" in staged_build.worked
    assert "with other input, options or tools" in staged_build.notices[0]


def change_a_weight(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def change_the_config(checkpoint: Path) -> None:
    path = checkpoint / "config.json"
    path.write_text(path.read_text() + "\n")


def change_the_tokenizer(checkpoint: Path) -> None:
    path = checkpoint / "tokenizer.json"
    path.write_text(path.read_text() + "\n")


@pytest.mark.parametrize("change", [change_a_weight, change_the_config, change_the_tokenizer])
def test_another_checkpoint_starts_over(
    staged_build: StagedBuild, change: Callable[[Path], None]
) -> None:
    staged_build.build_until("golden", KeyboardInterrupt())
    change(staged_build.spec.checkpoint)
    staged_build.build()
    assert staged_build.worked == STAGES


def test_another_version_of_a_tool_starts_over(
    staged_build: StagedBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged_build.build_until("golden", KeyboardInterrupt())
    monkeypatch.setattr("pocketlm.edge_build.build_key.tool_versions", lambda: {"torch": "0.0.1"})
    staged_build.build()
    assert staged_build.worked == STAGES


def test_another_program_starts_over(
    staged_build: StagedBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged_build.build_until("golden", KeyboardInterrupt())
    monkeypatch.setattr("pocketlm.edge_build.build_key.program_digest", lambda: "another")
    staged_build.build()
    assert staged_build.worked == STAGES


def test_memory_and_place_of_the_checkpoint_do_not_matter(
    staged_build: StagedBuild, tmp_path: Path
) -> None:
    staged_build.build_until("golden", KeyboardInterrupt())
    staged_build.spec.checkpoint.rename(tmp_path / "moved")
    staged_build.build(checkpoint=tmp_path / "moved", max_ram_bytes=1 << 40)
    assert staged_build.worked == ["golden"]
