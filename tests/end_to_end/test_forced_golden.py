"""Golden answers of large models: rows of a text from one pass. Recorded here on the small one."""

from pathlib import Path

import pytest

from edge_build import golden_plan
from edge_build.build import build
from edge_build.spec import BuildSpec
from runtime_py import open_bundle
from runtime_py.golden import Golden
from runtime_py.verification import verify
from tests.conftest import PICO


def test_rows_of_a_text_prove_an_artifact_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden_plan, "LARGE_PARAMETERS", 0)
    spec = BuildSpec(
        checkpoint=PICO, out=tmp_path / "pico", backends=("onnx",), chunk=32, context_length=512
    )
    manifest = build(spec)
    recorded = Golden.from_json((spec.out / "golden" / "onnx.json").read_text())
    rings = [c.capacity for c in manifest.backends["onnx"].caches if c.window is not None]
    long = next(case for case in recorded.cases if case.name == "long")
    assert len(long.prompt_ids) > max(rings)
    assert len(long.forced_ids) == len(long.continuation_ids) - 1
    # The text goes on as it was written, not as the model would have it.
    assert long.forced_ids != long.continuation_ids[:-1]
    assert not verify(open_bundle(spec.out), "onnx").mismatches
