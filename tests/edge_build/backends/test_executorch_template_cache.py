"""Templates from the cache: the same bytes as lowered ones, and a key for all that matters."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("executorch")

from pocketlm.edge_build.backend import LoweringInput
from pocketlm.edge_build.backends.executorch import lowering
from pocketlm.edge_build.backends.executorch.unroll.lowered_template import template_key
from pocketlm.edge_build.backends.executorch.unroll.template import make_template
from pocketlm.edge_build.build import build
from pocketlm.edge_build.lowered_cache import LoweredCache
from pocketlm.edge_build.quantization.weight import QuantizedWeight, WeightStore
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.runtime_py.manifest import Manifest
from tests.artifacts import executorch_source, lowered_executorch, write
from tests.conftest import PICO


def never(*arguments: Any) -> Any:
    raise AssertionError("lowered although it is in the cache")


def test_pico_built_again_is_not_lowered_and_has_the_same_bytes(
    pico_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = BuildSpec(
        PICO,
        tmp_path / "pico",
        ("executorch",),
        recipe="int4-g32",
        chunk=32,
        context_length=512,
        golden_tokens=1,
    )
    monkeypatch.setattr(lowering, "lowered_program", never)
    again = build(spec).backends["executorch"]
    first = Manifest.from_json((pico_bundle / "manifest.json").read_text())
    assert again == first.backends["executorch"]
    assert (spec.out / again.model).read_bytes() == (pico_bundle / again.model).read_bytes()


@pytest.mark.parametrize(
    ("family", "recipe"), [("qwen3", "int8-channel"), ("gemma2", "int4-channel")]
)
def test_other_families_from_the_cache_have_the_same_bytes(
    family: str, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = lowered_executorch(family, recipe)
    monkeypatch.setattr(lowering, "lowered_program", never)
    artifact, folder = write("executorch", built.source, tmp_path / "again")
    assert artifact == built.artifact
    assert (folder / artifact.model).read_bytes() == built.model_file.read_bytes()


@pytest.fixture(scope="module")
def source() -> LoweringInput:
    return executorch_source("gemma3_text", "int4-g32", "LG")[1]


def key(source: LoweringInput) -> str:
    return template_key(make_template(source))


def test_other_weights_and_names_have_the_same_key(source: LoweringInput) -> None:
    folder = executorch_source("gemma3_text", "int4-g32", "LG")[1].weights.folder
    assert folder != source.weights.folder
    weights = WeightStore(folder, source.weights.schemes)
    options = {"advance": lambda *_: None, "lowered": LoweredCache(None), "pad_id": 7}
    assert key(replace(source, weights=weights, **options)) == key(source)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, stop_ids=(1,)),
        lambda s: replace(s, bos_id=None),
        lambda s: replace(s, tokenizer_size=521),
        lambda s: replace(s, caches=s.caches.stored("per_token")),
        lambda s: replace(s, caches=replace(s.caches, chunk=4)),
        lambda s: replace(s, config=replace(s.config, rms_norm_eps=1e-5)),
        lambda s: replace(s, config=replace(s.config, embedding_scale=2.0)),
        lambda s: replace(s, weights=_other_scheme(s.weights)),
        lambda s: replace(s, weights=TinyScales(s.weights.folder, s.weights.schemes)),
    ],
    ids=["stops", "bos", "tokenizer", "kv", "chunk", "eps", "scale", "scheme", "gathered scales"],
)
def test_whatever_changes_the_program_changes_the_key(
    source: LoweringInput, change: Callable[[LoweringInput], LoweringInput]
) -> None:
    assert key(change(source)) != key(source)


def test_other_vector_instructions_change_the_key(
    source: LoweringInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key(source)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "other")
    assert key(source) != before


def test_another_program_or_tool_changes_the_key(
    source: LoweringInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "pocketlm.edge_build.lowering_key"
    before = key(source)
    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.program_digest", lambda *_: "other")
        assert key(source) != before
    monkeypatch.setattr(f"{module}.tool_versions", lambda: {"executorch": "other"})
    assert key(source) != before


def _other_scheme(weights: WeightStore) -> WeightStore:
    schemes = dict(weights.schemes)
    name = "layers.0.mlp.up_proj"
    schemes[name] = None
    return WeightStore(weights.folder, schemes)


class TinyScales(WeightStore):
    """Weights whose scales float16 cannot hold."""

    def quantized(self, name: str) -> QuantizedWeight:
        weight = super().quantized(name)
        return replace(weight, scales=np.asarray(weight.scales) * np.float32(2.0**-40))
