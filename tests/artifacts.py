"""Tiny artifacts for several test modules: each is lowered once a process, because that is slow."""

import atexit
import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import torch
from numpy.typing import NDArray

from pocketlm.edge_build import backends
from pocketlm.edge_build.backend import Artifact, LoweringInput
from pocketlm.edge_build.bundling import backend_entry
from pocketlm.edge_build.calibration.measuring import KvObserver
from pocketlm.edge_build.kv_cache import plan_caches
from pocketlm.edge_build.kv_scales import KvScales, scales_of
from pocketlm.edge_build.lowered_cache import user_lowered_cache
from pocketlm.edge_build.model_document import model_document
from pocketlm.edge_build.progress import silent
from pocketlm.edge_build.quantization import recipes
from pocketlm.edge_build.quantization.activations import Rounding
from pocketlm.edge_build.quantization.apply import quantize_weights
from pocketlm.edge_build.quantization.entries import tensor_entry
from pocketlm.edge_build.quantization.rules import choose_rules
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.edge_build.reference import ReferenceModel
from pocketlm.models.checkpoint import Checkpoint, open_checkpoint
from pocketlm.models.config import ModelConfig
from pocketlm.models.random_checkpoint import write_random_checkpoint
from pocketlm.models.shapes import shape_of
from pocketlm.models.weight_shapes import weight_shapes
from pocketlm.runtime_py import engines
from pocketlm.runtime_py.engine import LoadedModel
from pocketlm.runtime_py.kv_choice import KvChoice, KvName
from pocketlm.runtime_py.manifest import BackendEntry, Manifest
from tests.conftest import TINY_PUBLISHED, WINDOW
from tests.manifests import BARE_MANIFEST

CHUNK = 5
# A call of at most so many tokens gives logits after each.
LOGITS_ROWS = 3
# More than three times around the ring of WINDOW + CHUNK - 1 slots.
CONTEXT = 52
# More ids than the tiny models' 512 rows: those of the tokenizer that stock runners are given.
TOKENIZER_SIZE = 4096

assert CONTEXT > 4 * (WINDOW + CHUNK - 1)

# Layers of what is lowered, where not those of TINY_PUBLISHED: L has a window, G has none. Lowering
# takes its time by the layer, and two are one of each kind.
TWO_LAYERS = {"gemma3_text": "LG", "gemma2": "LG", "qwen3": "GG"}
# Repeated layers: test_executorch_unrolling.py lowers the same models layer by layer.
REPEATED: dict[tuple[str, str, KvName], str] = {
    ("gemma2", "int4-channel", "float32"): "GLLL",
    ("qwen3", "none", "float32"): "GGGG",
}


@dataclass(frozen=True)
class LoweredSource:
    """One artifact with what was lowered."""

    backend: str
    source: LoweringInput
    artifact: Artifact
    folder: Path

    @property
    def model_file(self) -> Path:
        return self.folder / self.artifact.model

    @property
    def graph(self) -> onnx_ir.Graph:
        return onnx_ir.load(self.model_file).graph

    @property
    def entry(self) -> BackendEntry:
        return backend_entry(self.artifact, f"golden/{self.backend}.json")

    @property
    def manifest(self) -> Manifest:
        shapes, schemes = weight_shapes(self.source.config), self.source.weights.schemes
        return replace(
            BARE_MANIFEST,
            model=model_document(self.source.config),
            context_length=self.source.caches.context_length,
            prefill_chunk=self.source.caches.chunk,
            bos_id=self.source.bos_id,
            stop_ids=self.source.stop_ids,
            tensors=tuple(tensor_entry(name, shapes[name], schemes[name], "") for name in schemes),
            backends={self.backend: self.entry},
        )

    def load(self) -> LoadedModel:
        return self.load_entry(self.folder, self.entry)

    def load_entry(self, folder: Path, entry: BackendEntry) -> LoadedModel:
        """Load another file in the artifact's place."""
        return engines.load(self.backend).load(folder, self.manifest, entry, 1)


@dataclass(frozen=True)
class Lowered(LoweredSource):
    """The same of a checkpoint."""

    checkpoint: Checkpoint


@dataclass(frozen=True)
class Build:
    """What one ONNX artifact is made from; `kv_range` scales the range of int8 codes."""

    family: str
    recipe: str = "none"
    local_cache: str = "windowed"
    context: int = CONTEXT
    chunk: int = CHUNK
    kv: KvName = "float32"
    kv_range: float = 1.0

    @property
    def published(self) -> dict[str, Any]:
        """The model: the tiny one of float32, where two layers of a kind share a mask; else two."""
        plain = replace(self, family="", local_cache="") == Build("", local_cache="")
        if plain and self.family != "qwen3":
            return TINY_PUBLISHED[self.family]
        return of_layers(self.family, TWO_LAYERS[self.family])


@cache
def lowered_onnx(build: Build) -> Lowered:
    """Lower a tiny random checkpoint of a family to ONNX."""
    options = {"local-cache": build.local_cache}
    sizes = (build.context, build.chunk)
    checkpoint, source, folder = _source(build.published, build.recipe, sizes, options)
    choice = KvChoice.named(build.kv)
    source = replace(source, caches=backends.load("onnx").stored(source.caches, choice))
    if build.kv != "float32":
        scales = calibrated(source.config, source.weights)
        factor = np.float32(build.kv_range)
        wider = (tuple(one * factor for one in each) for each in (scales.keys, scales.values))
        scales = KvScales(*wider)
        source = replace(source, kv_scales=scales)
    return Lowered("onnx", source, *write("onnx", source, folder), checkpoint)


@cache
def lowered_executorch(
    family: str,
    recipe: str,
    context: int = CONTEXT,
    chunk: int = CHUNK,
    kv: KvName = "float32",
    layers: str | None = None,
) -> Lowered:
    """Lower a tiny random checkpoint of a family to ExecuTorch."""
    layers = layers or REPEATED.get((family, recipe, kv), TWO_LAYERS[family])
    published = of_layers(family, layers)
    checkpoint, source, folder = _source(published, recipe, (context, chunk), {})
    caches = backends.load("executorch").stored(source.caches, KvChoice.named(kv))
    source = replace(source, caches=caches)
    return Lowered("executorch", source, *write("executorch", source, folder), checkpoint)


def _source(
    published: dict[str, Any], recipe: str, sizes: tuple[int, int], options: dict[str, str]
) -> tuple[Checkpoint, LoweringInput, Path]:
    """Return a checkpoint, what lowering it needs, and a folder for the bundle, not yet made."""
    folder = Path(tempfile.mkdtemp(prefix="pocketlm-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_random_checkpoint(shape_of("tiny", published), folder / "checkpoint", 7)
    checkpoint = open_checkpoint(folder / "checkpoint")
    store = folder / "store"
    store.mkdir()
    rules = choose_rules(checkpoint.shapes, recipes.load(recipe))
    source = LoweringInput(
        config=checkpoint.config,
        weights=quantize_weights(checkpoint, rules, store, silent).weights,
        caches=plan_caches(checkpoint.config, *sizes, min(LOGITS_ROWS, sizes[1])),
        stop_ids=(1, 106),
        bos_id=2,
        pad_id=0,
        tokenizer_size=TOKENIZER_SIZE,
        options=options,
        lowered=user_lowered_cache(),
    )
    return checkpoint, source, folder / "bundle"


def executorch_source(
    family: str, recipe: str, layers: str
) -> tuple[Checkpoint, LoweringInput, Path]:
    """Return the same for a tiny model of other layers."""
    return _source(of_layers(family, layers), recipe, (CONTEXT, CHUNK), {})


def of_layers(family: str, layers: str) -> dict[str, Any]:
    """Return the config of a tiny model of other layers: L has a window, G has none."""
    kinds = {"L": "sliding_attention", "G": "full_attention"}
    published = {**TINY_PUBLISHED[family], "num_hidden_layers": len(layers)}
    if "layer_types" in published:
        published["layer_types"] = [kinds[layer] for layer in layers]
    return published


def calibrated(config: ModelConfig, weights: WeightStore) -> KvScales:
    """Return scales that hold what random tokens give; a few of others may saturate."""
    model = ReferenceModel(config, weights, "none")
    model.run(random_tokens(CONTEXT, seed=1))
    observer = KvObserver(config)
    for index, (key, value) in enumerate(model.past):
        observer.rounding().key_value(index, key, value)
    return scales_of(observer.result())


def write(backend: str, source: LoweringInput, bundle: Path) -> tuple[Artifact, Path]:
    """Lower into a new folder."""
    bundle.mkdir()
    return backends.load(backend).lower(source, bundle), bundle


def random_tokens(count: int, seed: int = 0, vocab_size: int = 512) -> list[int]:
    """Return seeded token ids."""
    generator = torch.Generator().manual_seed(seed)
    ids: list[int] = torch.randint(0, vocab_size, (count,), generator=generator).tolist()
    return ids


def logits_after(model: LoadedModel, tokens: list[int], splits: list[int]) -> NDArray[np.float32]:
    """Run tokens from position 0 in calls of the given lengths; return each call's logits."""
    assert sum(splits) == len(tokens), "the splits must cover the tokens"
    rows, position = [], 0
    for length in splits:
        rows.append(model.run(tokens[position : position + length], position)[-1])
        position += length
    return np.stack(rows)


def rows_after(
    model: LoadedModel, tokens: list[int], splits: list[int]
) -> tuple[NDArray[np.float32], list[int]]:
    """Run the same calls; return every row that they give, and the token that it is after."""
    rows, places, position = [], [], 0
    for length in splits:
        found = model.run(tokens[position : position + length], position)
        position += length
        assert len(found) == length if length <= LOGITS_ROWS else len(found) < length
        rows.append(found)
        places += range(position - len(found), position)
    return np.concatenate(rows), places


def ends(splits: list[int]) -> list[int]:
    """Return the index of the last token of each call."""
    return [int(end) - 1 for end in np.cumsum(splits)]


def derived_bound(built: Lowered, tokens: list[int]) -> tuple[NDArray[np.float32], float]:
    """Return the eager quantized model's logits, and the bound of docs/numerics.md for an artifact.

    The bound is twice the largest change of a logit by rounding activations, keys and values, in
    standard deviations of its row.
    """
    config, weights = built.source.config, built.source.weights
    kinds = built.artifact.activation_quantization, built.artifact.attention_quantization
    whole = Rounding.over(built.artifact.caches, *kinds).whole
    model = ReferenceModel(config, weights, *kinds, built.source.kv_scales, whole=whole)
    rounded = model.run(tokens).numpy()
    exact = ReferenceModel(config, weights, "none").run(tokens).numpy()
    return rounded, 2 * float((np.abs(rounded - exact).max(-1) / exact.std(-1)).max())
