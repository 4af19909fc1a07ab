"""Tiny ONNX artifacts for several test modules: each is lowered once a process."""

import tempfile
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import onnx_ir

from edge_build import backends
from edge_build.backend import Artifact, LoweringInput
from edge_build.kv_cache import plan_caches
from edge_build.progress import silent
from edge_build.quantization import recipes
from edge_build.quantization.apply import choose_rules, quantize_weights
from models.checkpoint import Checkpoint, open_checkpoint
from models.random_checkpoint import write_random_checkpoint
from models.shapes import shape_of
from runtime_py import engines
from runtime_py.engine import LoadedModel
from runtime_py.manifest import BackendEntry, Manifest
from tests.conftest import TINY_PUBLISHED, WINDOW

CHUNK = 5
# More than three times around the ring of WINDOW + CHUNK - 1 slots.
CONTEXT = 52

assert CONTEXT > 4 * (WINDOW + CHUNK - 1)


@dataclass(frozen=True)
class Build:
    """What one artifact is made from."""

    family: str
    recipe: str = "none"
    local_cache: str = "windowed"
    context: int = CONTEXT
    chunk: int = CHUNK


@dataclass(frozen=True)
class Lowered:
    """One artifact with everything that made it."""

    checkpoint: Checkpoint
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
        artifact = self.artifact
        return BackendEntry(
            model=artifact.model,
            activation_quantization=artifact.activation_quantization,
            runtime_floor=artifact.runtime_floor,
            caches=artifact.caches,
            rewind_tokens=artifact.rewind_tokens,
            logits_size=artifact.logits_size,
            golden="golden/onnx.json",
            memory_plan=artifact.memory_plan,
            options=artifact.options,
        )

    @property
    def manifest(self) -> Manifest:
        return Manifest(
            name="tiny",
            model=asdict(self.source.config),
            context_length=self.source.caches.context_length,
            prefill_chunk=self.source.caches.chunk,
            recipe="",
            bos_id=self.source.bos_id,
            stop_ids=self.source.stop_ids,
            tensors=(),
            backends={"onnx": self.entry},
            files=(),
            notes=(),
            build={},
        )

    def load(self) -> LoadedModel:
        return engines.load("onnx").load(self.folder, self.manifest, self.entry, 1)


@cache
def lowered(build: Build) -> Lowered:
    """Lower a tiny random checkpoint of a family."""
    folder = Path(tempfile.mkdtemp(prefix="pocketlm-test-"))
    checkpoint_folder = folder / "checkpoint"
    write_random_checkpoint(shape_of("tiny", TINY_PUBLISHED[build.family]), checkpoint_folder, 7)
    checkpoint = open_checkpoint(checkpoint_folder)
    store = folder / "store"
    store.mkdir()
    rules = choose_rules(checkpoint, recipes.load(build.recipe))
    source = LoweringInput(
        config=checkpoint.config,
        weights=quantize_weights(checkpoint, rules, store, silent).weights,
        caches=plan_caches(checkpoint.config, build.context, build.chunk),
        stop_ids=(1, 106),
        bos_id=2,
        pad_id=0,
        tokenizer_size=520,
        options={"local-cache": build.local_cache},
    )
    return Lowered(checkpoint, source, *write(source, folder / "bundle"))


def write(source: LoweringInput, bundle: Path) -> tuple[Artifact, Path]:
    """Lower into a new folder."""
    bundle.mkdir()
    return backends.load("onnx").lower(source, bundle), bundle
