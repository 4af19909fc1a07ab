"""What ONNX Runtime makes of weights and keeps besides, as the native runner runs it."""

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

# MatMulNBits takes blocks of a power of two up to 256 columns, channels in blocks of 128.
_CHANNEL_BLOCK, _LARGEST_BLOCK = 128, 256


class OnnxMemory:
    """Caches and logits are the runner's; MatMulNBits packs its weights, the file stays mapped."""

    heads_apart: ClassVar[bool] = True
    # On x86 20.79 to 21.01 in 29 runs of three families, 20.87 from folios of a page.
    code_bytes: ClassVar[Mapping[str, int]] = {"aarch64": int(21.5 * MB), "x86_64": int(20.9 * MB)}
    _base_bytes, _layer_bytes = 9.3 * MB, 0.24 * MB

    def packed_bytes(self, tensors: Sequence[TensorEntry]) -> tuple[int, str]:
        weights = products(tensors)
        quantized = [tensor for tensor in weights if tensor.bits != 32]
        codes = sum(tensor.shape[0] * _padded(tensor) * tensor.bits // 8 for tensor in quantized)
        # A scale and a sum of codes, in float32.
        blocks = sum(tensor.shape[0] * _blocks(tensor) for tensor in quantized)
        floats = sum(tensor.size_bytes for tensor in weights if tensor.bits == 32)
        return codes + 2 * FLOAT_BYTES * blocks + floats, (
            f"{size_text(codes)} of codes + {blocks:,} blocks x {2 * FLOAT_BYTES} bytes"
            + (f" + {size_text(floats)} of float32" if floats else "")
        )

    def table_row_bytes(self, table: TensorEntry) -> tuple[float, ...]:
        if table.bits == 32:
            return (FLOAT_BYTES * table.shape[1],)
        blocks = _blocks(table)
        return (
            _padded(table) * table.bits / 8,
            FLOAT_BYTES * blocks,
            _zero_point_bytes(table),
        )

    def activation_bytes(
        self, shape: ModelShape, choices: RunChoices, call_tokens: int, architecture: str
    ) -> tuple[int, str]:
        # What lives at once in the MLP and in attention, of which the arena keeps both: queries
        # several times (split, normed, rotated, turned), keys and values twice each. Fitted to the
        # shapes of Gemma 3, Gemma 2 and Qwen3, which it meets within 1 %.
        columns = 3 * shape.intermediate + 2 * shape.hidden
        columns += 15 * shape.query // 2 + 4 * shape.key_value
        text = f"{call_tokens} tokens x 4 bytes x {columns:,}"
        if choices.options.get("attention") != "unfused":
            return FLOAT_BYTES * call_tokens * columns, text
        # This kernel keeps a call's scores, as wide as the widest cache.
        slots = max(cache.capacity for cache in choices.caches)
        columns += shape.heads * slots
        return FLOAT_BYTES * call_tokens * columns, (
            f"{text} + scores of {shape.heads} heads x {slots:,} slots"
        )

    def mapped_bytes(self, shape: ModelShape) -> int:
        return 0

    def heap_bytes(self, shape: ModelShape) -> int:
        return int(self._base_bytes + self._layer_bytes * shape.layers)

    def load_transient(self, tensors: Sequence[TensorEntry], architecture: str) -> tuple[int, str]:
        """Scales and zero points of all products stay mapped until the last one is packed."""
        weights = [tensor for tensor in products(tensors) if tensor.bits != 32]
        head = head_of(tensors)
        codes = head.shape[0] * _padded(head) * head.bits // 8
        scales = sum(
            int(t.shape[0] * (FLOAT_BYTES * _blocks(t) + _zero_point_bytes(t))) for t in weights
        )
        # x86 kernels add up the head's blocks apart first.
        sums = 0 if architecture == "aarch64" else FLOAT_BYTES * head.shape[0] * _blocks(head)
        return codes + scales + sums, (
            f"{size_text(codes)} of the head's file pages while it is packed + "
            f"{size_text(scales)} of all scales" + (f" + {size_text(sums)} of sums" if sums else "")
        )


def _block(tensor: TensorEntry) -> int:
    if tensor.group_size is None:
        return _CHANNEL_BLOCK
    return min(_LARGEST_BLOCK, tensor.group_size & -tensor.group_size)


def _blocks(tensor: TensorEntry) -> int:
    return -(-tensor.shape[1] // _block(tensor))


def _padded(tensor: TensorEntry) -> int:
    return _blocks(tensor) * _block(tensor)


def _zero_point_bytes(tensor: TensorEntry) -> int:
    return -(-_blocks(tensor) * tensor.bits // 8)


MEMORY = OnnxMemory()
