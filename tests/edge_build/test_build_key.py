"""What makes an interrupted build start over, and what does not.

Stages are doubles that write a few bytes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.workshop import STAGES, Workshop


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
def test_other_options_start_over(workshop: Workshop, change: dict[str, Any]) -> None:
    workshop.build_until("golden", KeyboardInterrupt())
    workshop.build(**change)
    assert "quantize" in workshop.worked
    assert "with other input, options or tools" in workshop.notices[0]


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
def test_another_checkpoint_starts_over(workshop: Workshop, change: Callable[[Path], None]) -> None:
    workshop.build_until("golden", KeyboardInterrupt())
    change(workshop.spec.checkpoint)
    workshop.build()
    assert workshop.worked == STAGES


def test_another_version_of_a_tool_starts_over(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.build_until("golden", KeyboardInterrupt())
    monkeypatch.setattr("pocketlm.edge_build.build_key.tool_versions", lambda: {"torch": "0.0.1"})
    workshop.build()
    assert workshop.worked == STAGES


def test_another_program_starts_over(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop.build_until("golden", KeyboardInterrupt())
    monkeypatch.setattr("pocketlm.edge_build.build_key.program_digest", lambda: "another")
    workshop.build()
    assert workshop.worked == STAGES


def test_memory_and_place_of_the_checkpoint_do_not_matter(
    workshop: Workshop, tmp_path: Path
) -> None:
    workshop.build_until("golden", KeyboardInterrupt())
    workshop.spec.checkpoint.rename(tmp_path / "moved")
    workshop.build(checkpoint=tmp_path / "moved", max_ram_bytes=1 << 40)
    assert workshop.worked == ["golden"]
