"""A bundle whose weights and norms were folded is proven as every other one."""

from pathlib import Path

import pytest

from pocketlm.edge_build.build import build
from pocketlm.edge_build.progress import Event, StageFinished
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.runtime_py import open_bundle
from pocketlm.runtime_py.verification import verify
from tests.conftest import PICO, MakeCheckpoint


@pytest.mark.parametrize("method", ["awq", "awq+gptq"])
def test_it_is_verified_with_int8_caches_too(
    method: str, tiny_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    events: list[Event] = []
    spec = BuildSpec(
        tiny_checkpoint("gemma3_text"),
        tmp_path / "tiny",
        backends=("onnx",),
        kv="int8",
        context_length=64,
        chunk=8,
        golden_tokens=2,
        method=method,
        calibration_text=PICO / "README.md",
    )
    manifest = build(spec, events.append)
    finished = [event.report.name for event in events if isinstance(event, StageFinished)]
    assert finished == ["checkpoint", "calibrate", "fold", "quantize", "onnx", "golden", "text"]
    assert {rule.method for rule in manifest.recipe_rules} == {method}
    result = verify(open_bundle(spec.out), "onnx")
    assert result.passed, result
