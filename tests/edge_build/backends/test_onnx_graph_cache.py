"""Graphs from the cache: the same bytes as traced ones, and a key for all that matters."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pocketlm.edge_build.backend import LoweringInput
from pocketlm.edge_build.backends.onnx import lowering
from pocketlm.edge_build.backends.onnx.choices import plan_artifact
from pocketlm.edge_build.backends.onnx.kept_graph import graph_key
from pocketlm.edge_build.lowered_cache import NO_CACHE
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.runtime_py.kv_choice import KvName
from tests.artifacts import Build, lowered_onnx, write


def never(*arguments: Any) -> Any:
    raise AssertionError("traced although it is in the cache")


@pytest.mark.parametrize(
    ("family", "recipe", "kv"),
    [("gemma3_text", "int4-g32", "int8"), ("gemma2", "int4-g32", "float32")],
)
def test_a_graph_from_the_cache_has_the_same_bytes(
    family: str, recipe: str, kv: KvName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = lowered_onnx(Build(family, recipe, kv=kv)).source
    cold, cold_folder = write("onnx", replace(source, lowered=NO_CACHE), tmp_path / "cold")
    monkeypatch.setattr(lowering, "trace", never)
    warm, warm_folder = write("onnx", source, tmp_path / "warm")
    assert cold == warm
    for name in cold.files:
        assert (cold_folder / name).read_bytes() == (warm_folder / name).read_bytes(), name


@pytest.fixture(scope="module")
def source() -> LoweringInput:
    return lowered_onnx(Build("gemma3_text", "int4-g32")).source


def key(source: LoweringInput, local_cache: str = "windowed") -> str:
    caches = plan_artifact(source.config, source.caches, {"local-cache": local_cache}).caches
    return graph_key(source, replace(source.caches, layers=caches))


def test_what_is_not_in_the_graph_changes_no_key(source: LoweringInput) -> None:
    assert key(replace(source, stop_ids=(9,), bos_id=None, tokenizer_size=600)) == key(source)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, caches=s.caches.stored("per_channel")),
        lambda s: replace(s, caches=replace(s.caches, chunk=4)),
        lambda s: replace(s, config=replace(s.config, rms_norm_eps=1e-5)),
        lambda s: replace(s, weights=_one_float(s.weights)),
    ],
    ids=["kv", "chunk", "eps", "scheme"],
)
def test_whatever_changes_the_graph_changes_the_key(
    source: LoweringInput, change: Callable[[LoweringInput], LoweringInput]
) -> None:
    assert key(change(source)) != key(source)


def test_another_option_program_or_tool_changes_the_key(
    source: LoweringInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "pocketlm.edge_build.lowering_key"
    before = key(source)
    assert key(source, "ring") != before
    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.program_digest", lambda *_: "other")
        assert key(source) != before
    monkeypatch.setattr(f"{module}.tool_versions", lambda: {"torch": "other"})
    assert key(source) != before


def _one_float(weights: WeightStore) -> WeightStore:
    return WeightStore(weights.folder, {**weights.schemes, "layers.0.mlp.up_proj": None})
