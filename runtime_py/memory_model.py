"""What decides the memory of a run, and what a backend's memory model must offer.

`runtime_py/engines/NAME/memory.py` is the model of backend NAME and offers one constant, MEMORY.
Whoever speaks of memory asks `memory_prediction.py`, which asks that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pocketlm.runtime_py.manifest import CacheEntry, TensorEntry
from pocketlm.runtime_py.model_entry import read_model

MB = 1_000_000
FLOAT_BYTES = 4
TABLE = "embed_tokens"
_HEAD = "lm_head"


@dataclass(frozen=True)
class ModelShape:
    """The numbers of a model that decide memory, of its widest layers.

    Attributes:
        query, key_value: columns of all heads together.
        rotations: pairs of tables (cosines and sines) that layers share.
        masks: that layers share, one for each window that there is.
        caps_scores: whether attention scores are capped, so that no fused attention computes them.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    query: int
    key_value: int
    chunk: int
    head_dim: int
    rotations: int
    masks: int
    caps_scores: bool

    @classmethod
    def of(cls, model: Mapping[str, Any], chunk: int) -> "ModelShape":
        """Return the numbers of a model, as a manifest has it, in calls of a chunk."""
        layers = read_model(model).layers
        return cls(
            layers=len(layers),
            hidden=model["hidden_size"],
            intermediate=max(layer.intermediate_size for layer in layers),
            heads=max(layer.num_attention_heads for layer in layers),
            query=max(layer.num_attention_heads * layer.head_dim for layer in layers),
            key_value=max(layer.num_key_value_heads * layer.head_dim for layer in layers),
            chunk=chunk,
            head_dim=max(layer.head_dim for layer in layers),
            rotations=len({layer.rotary for layer in layers}),
            masks=len({layer.window for layer in layers}),
            caps_scores=model["attention_softcap"] is not None,
        )


@dataclass(frozen=True)
class RunChoices:
    """What was decided for one backend, or is planned of it.

    Attributes:
        logits_size: width of a row of logits.
        logits_rows: most rows that a call gives.
        planned_bytes: that the artifact itself plans for a call besides caches, logits among them;
            None where nothing is built yet, or where the runtime allocates as it goes.
    """

    caches: tuple[CacheEntry, ...]
    options: Mapping[str, str]
    logits_size: int
    logits_rows: int = 1
    planned_bytes: int | None = None


class RuntimeMemory(Protocol):
    """One runtime. Each pair is bytes and their arithmetic in words.

    Constants were read off phases of the native runner in an emulated Arm machine (docs/devices.md)
    and are the same on x86 to within a few MB. Formulas take shapes alone.
    """

    # Whether each head's keys lie together, so that a cache is filled in as many places.
    heads_apart: ClassVar[bool]
    # Pages of its libraries that are resident, C library and runner included, by architecture.
    code_bytes: ClassVar[Mapping[str, int]]

    def packed_bytes(self, tensors: Sequence[TensorEntry]) -> tuple[int, str]:
        """Weights as its kernels want them."""

    def table_row_bytes(self, table: TensorEntry) -> tuple[float, ...]:
        """Bytes of a row of the embedding table, in each array that it is kept in."""

    def activation_bytes(
        self, shape: ModelShape, choices: RunChoices, call_tokens: int, architecture: str
    ) -> tuple[int, str]:
        """What calls of so many tokens need besides caches."""

    def mapped_bytes(self, shape: ModelShape) -> int:
        """Pages of the artifact that stay resident, without the embedding table's."""

    def heap_bytes(self, shape: ModelShape) -> int:
        """Graphs, kernels and libraries' own data."""

    def load_transient(self, tensors: Sequence[TensorEntry], architecture: str) -> tuple[int, str]:
        """Most that is resident while loading and not afterwards."""


def products(tensors: Sequence[TensorEntry]) -> list[TensorEntry]:
    """Return the weights of products; a table that is only read by row is none."""
    head = head_of(tensors)
    return [t for t in tensors if len(t.shape) == 2 and (t.name != TABLE or t is head)]


def head_of(tensors: Sequence[TensorEntry]) -> TensorEntry:
    named = {tensor.name: tensor for tensor in tensors}
    return named.get(_HEAD, named[TABLE])
