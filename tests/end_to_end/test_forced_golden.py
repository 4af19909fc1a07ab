"""Golden answers of large models: rows of a text from one pass. Recorded here on the small one."""

from pathlib import Path
from typing import Any

import onnx
import pytest

from pocketlm.edge_build import golden_plan
from pocketlm.edge_build.build import build
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.runtime_py import open_bundle
from pocketlm.runtime_py.golden import Golden
from pocketlm.runtime_py.verification import verify
from tests.conftest import PICO


@pytest.fixture(scope="module")
def placed_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose texts are too short for its rings, as a model of 4 B weights has them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(golden_plan, "LARGE_PARAMETERS", 0)
        patch.setattr(golden_plan, "_MOST_MULTIPLY_ADDS", 0.0)
        patch.setattr(golden_plan, "_LARGE_TEXT_ROWS", 40)
        out = tmp_path_factory.mktemp("placed") / "pico"
        build(BuildSpec(PICO, out, backends=("onnx",), chunk=32, context_length=512))
    return out


def test_tokens_cross_the_rings_where_a_text_would_take_too_long(placed_bundle: Path) -> None:
    recorded = Golden.from_json((placed_bundle / "golden" / "onnx.json").read_text())
    bundle = open_bundle(placed_bundle)
    rings = [c.capacity for c in bundle.manifest.backends["onnx"].caches if c.window is not None]
    assert all(len(case.prompt_ids) + len(case.forced_ids) < min(rings) for case in recorded.cases)
    (edge,) = (case for case in recorded.placed_cases if case.name == "edge")
    assert max(call.position for call in edge.calls) >= max(rings)
    assert not verify(bundle, "onnx").mismatches


@pytest.mark.parametrize(("layer", "change"), [(0, -1), (4, 1)])
def test_placed_tokens_show_a_window_that_is_wrong_by_one(
    placed_bundle: Path, layer: int, change: int
) -> None:
    path = placed_bundle / "onnx" / "model.onnx"
    sound, model = path.read_bytes(), onnx.load(path, load_external_data=False)
    attentions: list[Any] = [n for n in model.graph.node if n.op_type == "GroupQueryAttention"]
    (window,) = (a for a in attentions[layer].attribute if a.name == "local_window_size")
    window.i += change
    try:
        path.write_bytes(model.SerializeToString())
        result = verify(open_bundle(placed_bundle, check_hashes=False), "onnx")
    finally:
        path.write_bytes(sound)
    assert {m.check for m in result.mismatches} & {"exact logits", "logits"}


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
