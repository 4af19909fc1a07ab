"""What ExecuTorch makes of weights and keeps besides, as the native runner runs it."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pocketlm.runtime_py.manifest import TensorEntry
from pocketlm.runtime_py.memory_model import (
    FLOAT_BYTES,
    MB,
    ModelShape,
    RunChoices,
    head_of,
    products,
)
from pocketlm.runtime_py.sizes import size_text

_BF16_BYTES = 2
_POSITION_BYTES = 8  # of each token of a call
# As edge_build/backends/executorch/memory_places.py lays memories out.
_READ_PAST_BYTES, _ALIGNMENT = 64, 16


class ExecutorchMemory:
    """Caches and activations in planned memory; XNNPACK packs each delegate as it loads it."""

    heads_apart: ClassVar[bool] = False
    code_bytes: ClassVar[Mapping[str, int]] = {"aarch64": int(6.7 * MB), "x86_64": int(9.4 * MB)}
    _channel_bytes = 12  # of each output channel: sum of codes, bias, and padding
    _base_bytes, _layer_bytes = 2.4 * MB, 0.08 * MB
    _program_layer_bytes = 0.03 * MB

    def packed_bytes(self, tensors: Sequence[TensorEntry]) -> tuple[int, str]:
        weights = products(tensors)
        channels = sum(tensor.shape[0] for tensor in weights)
        codes = sum(tensor.size_bytes for tensor in weights)
        return codes + self._channel_bytes * channels, (
            f"{size_text(codes)} of codes and scales + {channels:,} channels x "
            f"{self._channel_bytes} bytes"
        )

    def table_row_bytes(self, table: TensorEntry) -> tuple[float, ...]:
        # A head that shares these bytes of the file is packed from a mapping of its own.
        columns = table.shape[1]
        if table.bits == 32:
            return (FLOAT_BYTES * columns,)
        return (columns * table.bits / 8, _BF16_BYTES * _groups(table))

    def activation_bytes(
        self, shape: ModelShape, choices: RunChoices, call_tokens: int, architecture: str
    ) -> tuple[int, str]:
        planned, planned_text = choices.planned_bytes, "planned by the artifact"
        # Where rows of logits are much of it, the program plans for them what only drafts fill.
        rows_bytes = FLOAT_BYTES * choices.logits_rows * choices.logits_size
        if planned is None or (choices.logits_rows > 1 and 2 * rows_bytes > planned):
            planned, planned_text = self._planned_bytes(shape, choices)
        if shape.caps_scores:
            slots = _most_slots(choices)
            workspace, what = shape.heads * slots, f"{shape.heads} heads x {slots:,} slots"
        elif architecture == "aarch64":
            workspace, what = 3 * shape.intermediate // 2, "in the MLP"
        else:
            # Products of the MLP lie in a workspace that is written whole while it is packed.
            workspace, what = shape.hidden, "beside them"
        # Logits lie in the same memory: what calls leave there counts as theirs.
        row = FLOAT_BYTES * choices.logits_size
        planned = max(0, planned - row) * call_tokens // shape.chunk
        return planned + FLOAT_BYTES * call_tokens * workspace, (
            f"{planned_text}, less what logits take, for {call_tokens} of {shape.chunk} tokens + "
            f"{call_tokens} tokens x 4 bytes x {workspace:,} {what}"
        )

    def _planned_bytes(self, shape: ModelShape, choices: RunChoices) -> tuple[int, str]:
        """Return what a program plans besides caches; the program itself says it exactly."""
        # Between two layers: what came in and what goes out, queries and their attention, keys and
        # values, and for all layers the tables of rotations.
        columns = 2 * (shape.hidden + shape.query + shape.key_value)
        columns += 2 * shape.head_dim * shape.rotations
        rings = [cache.capacity for cache in choices.caches if cache.layout.overwrites]
        if shape.caps_scores:
            # One more residual, because attention and MLP are one delegate, and whole masks.
            columns += shape.hidden + _most_slots(choices) * shape.masks
        else:
            columns += max(rings, default=0)
        computed = (FLOAT_BYTES * columns + _POSITION_BYTES) * shape.chunk
        computed = -(-computed // _ALIGNMENT) * _ALIGNMENT
        # One memory for what a call computes, one for each kind of cache.
        memories = 1 + len({cache.layout.overwrites for cache in choices.caches})
        return computed + _READ_PAST_BYTES * memories, (
            f"planned: {shape.chunk} tokens x (4 bytes x {columns:,} + {_POSITION_BYTES}) + "
            f"{memories} x {_READ_PAST_BYTES} bytes"
        )

    def mapped_bytes(self, shape: ModelShape) -> int:
        return int(self._program_layer_bytes * shape.layers)

    def heap_bytes(self, shape: ModelShape) -> int:
        return int(self._base_bytes + self._layer_bytes * shape.layers)

    def load_transient(self, tensors: Sequence[TensorEntry], architecture: str) -> tuple[int, str]:
        """The largest delegate's part of the file, while it is packed."""
        head = head_of(tensors)
        size = int(0.94 * head.size_bytes)
        return size, f"{size_text(size)} of the head's file pages while it is packed"


def _most_slots(choices: RunChoices) -> int:
    return max(cache.capacity for cache in choices.caches)


def _groups(tensor: TensorEntry) -> int:
    return 1 if tensor.group_size is None else tensor.shape[1] // tensor.group_size


MEMORY = ExecutorchMemory()
