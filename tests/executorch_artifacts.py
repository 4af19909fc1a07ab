"""Tiny .pte files for several test modules; each is lowered once a process: it is slow."""

import tempfile
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

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
TOKENIZER_SIZE = 520

assert CONTEXT > 4 * (WINDOW + CHUNK - 1)


@dataclass(frozen=True)
class Lowered:
    """One artifact with everything that made it."""

    checkpoint: Checkpoint
    source: LoweringInput
    artifact: Artifact
    folder: Path

    @property
    def pte(self) -> Path:
        return self.folder / self.artifact.model

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
            golden="golden/executorch.json",
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
            backends={"executorch": self.entry},
            files=(),
            notes=(),
            build={},
        )

    def load(self) -> LoadedModel:
        return engines.load("executorch").load(self.folder, self.manifest, self.entry, 1)


@cache
def lowered(
    family: str, recipe: str, context: int = CONTEXT, tokenizer_size: int = TOKENIZER_SIZE
) -> Lowered:
    """Lower a tiny random checkpoint of a family, in chunks of CHUNK."""
    folder = Path(tempfile.mkdtemp(prefix="pocketlm-test-"))
    shape = shape_of("tiny", TINY_PUBLISHED[family])
    write_random_checkpoint(shape, folder / "checkpoint", seed=7)
    checkpoint = open_checkpoint(folder / "checkpoint")
    rules = choose_rules(checkpoint, recipes.load(recipe))
    store = folder / "store"
    store.mkdir()
    source = LoweringInput(
        config=checkpoint.config,
        weights=quantize_weights(checkpoint, rules, store, silent).weights,
        caches=plan_caches(checkpoint.config, context, CHUNK),
        stop_ids=(1, 106),
        bos_id=2,
        pad_id=0,
        tokenizer_size=tokenizer_size,
    )
    bundle = folder / "bundle"
    bundle.mkdir()
    artifact = backends.load("executorch").lower(source, bundle)
    return Lowered(checkpoint, source, artifact, bundle)


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
        rows.append(model.run(tokens[position : position + length], position))
        position += length
    return np.stack(rows)


def ends(splits: list[int]) -> list[int]:
    """Return the index of the last token of each call."""
    return [int(end) - 1 for end in np.cumsum(splits)]
