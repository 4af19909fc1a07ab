"""What each runtime makes of weights and keeps besides, as the native runner runs it.

Every measured constant stands here. They were read off phases of the runner in an emulated Arm
machine (docs/devices.md) and are the same on x86 to within a few MB. Formulas take shapes alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from pocketlm.device_tests.quantities import size_text
from pocketlm.runtime_py.manifest import BackendEntry, Manifest, TensorEntry

MB = 1_000_000
_FLOAT_BYTES, _BF16_BYTES = 4, 2
_TABLE, _HEAD = "embed_tokens", "lm_head"


@dataclass(frozen=True)
class ModelShape:
    """The numbers of a model that decide memory.

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
    def of(cls, manifest: Manifest) -> "ModelShape":
        model = manifest.model
        layers = model["layers"]
        return cls(
            layers=len(layers),
            hidden=model["hidden_size"],
            intermediate=model["intermediate_size"],
            heads=model["num_attention_heads"],
            query=model["num_attention_heads"] * model["head_dim"],
            key_value=model["num_key_value_heads"] * model["head_dim"],
            chunk=manifest.prefill_chunk,
            head_dim=model["head_dim"],
            rotations=len({(layer["rope_theta"], layer["rope_factor"]) for layer in layers}),
            masks=len({layer["window"] for layer in layers}),
            caps_scores=model["attention_softcap"] is not None,
        )


class RuntimeMemory(Protocol):
    """One runtime. Each pair is bytes and their arithmetic in words."""

    # Whether each head's keys lie together, so that a cache is filled in as many places.
    heads_apart: ClassVar[bool]
    # Pages of its libraries that are resident, C library and runner included, by architecture.
    code_bytes: ClassVar[Mapping[str, int]]

    def packed_bytes(self, tensors: Sequence[TensorEntry]) -> tuple[int, str]:
        """Weights as its kernels want them."""

    def table_row_bytes(self, table: TensorEntry) -> tuple[float, ...]:
        """Bytes of a row of the embedding table, in each array that it is kept in."""

    def activation_bytes(
        self, shape: ModelShape, entry: BackendEntry, call_tokens: int, architecture: str
    ) -> tuple[int, str]:
        """What calls of so many tokens need besides caches."""

    def mapped_bytes(self, shape: ModelShape) -> int:
        """Pages of the artifact that stay resident, without the embedding table's."""

    def heap_bytes(self, shape: ModelShape) -> int:
        """Graphs, kernels and libraries' own data."""

    def load_transient(self, tensors: Sequence[TensorEntry], architecture: str) -> tuple[int, str]:
        """Most that is resident while loading and not afterwards."""


class ExecutorchMemory:
    """Caches and activations in planned memory; XNNPACK packs each delegate as it loads it."""

    heads_apart: ClassVar[bool] = False
    code_bytes: ClassVar[Mapping[str, int]] = {"aarch64": int(6.7 * MB), "x86_64": int(9.4 * MB)}
    _channel_bytes = 12  # of each output channel: sum of codes, bias, and padding
    _base_bytes, _layer_bytes = 2.4 * MB, 0.08 * MB
    _program_layer_bytes = 0.03 * MB

    def packed_bytes(self, tensors: Sequence[TensorEntry]) -> tuple[int, str]:
        products = _products(tensors)
        channels = sum(tensor.shape[0] for tensor in products)
        codes = sum(tensor.size_bytes for tensor in products)
        return codes + self._channel_bytes * channels, (
            f"{size_text(codes)} of codes and scales + {channels:,} channels x "
            f"{self._channel_bytes} bytes"
        )

    def table_row_bytes(self, table: TensorEntry) -> tuple[float, ...]:
        columns = table.shape[1]
        if table.bits == 32:
            return (_FLOAT_BYTES * columns,)
        return (columns * table.bits / 8, _BF16_BYTES * _groups(table))

    def activation_bytes(
        self, shape: ModelShape, entry: BackendEntry, call_tokens: int, architecture: str
    ) -> tuple[int, str]:
        # Between two layers: what came in and what goes out, queries and their attention, keys and
        # values, and for all layers the tables of rotations.
        columns = 2 * (shape.hidden + shape.query + shape.key_value)
        columns += 2 * shape.head_dim * shape.rotations
        slots = max(cache.capacity for cache in entry.caches)
        rings = [cache.capacity for cache in entry.caches if cache.layout.overwrites]
        if shape.caps_scores:
            # One more residual, because attention and MLP are one delegate, and whole masks.
            columns += shape.hidden + slots * shape.masks
            workspace, what = shape.heads * slots, f"{shape.heads} heads x {slots:,} slots"
        elif architecture == "aarch64":
            workspace, what = 3 * shape.intermediate // 2, "in the MLP"
        else:
            # Products of the MLP lie in a workspace that is written whole while it is packed.
            workspace, what = shape.hidden, "beside them"
        columns += 0 if shape.caps_scores else max(rings, default=0)
        # Logits lie in the same memory: what calls leave there counts as theirs.
        planned = max(0, _FLOAT_BYTES * shape.chunk * columns - _FLOAT_BYTES * entry.logits_size)
        planned = planned * call_tokens // shape.chunk
        return planned + _FLOAT_BYTES * call_tokens * workspace, (
            f"{call_tokens} tokens x 4 bytes x ({columns:,} planned + {workspace:,} {what}), less "
            "what logits take of the planned"
        )

    def mapped_bytes(self, shape: ModelShape) -> int:
        return int(self._program_layer_bytes * shape.layers)

    def heap_bytes(self, shape: ModelShape) -> int:
        return int(self._base_bytes + self._layer_bytes * shape.layers)

    def load_transient(self, tensors: Sequence[TensorEntry], architecture: str) -> tuple[int, str]:
        """The largest delegate's part of the file, while it is packed."""
        head = _head(tensors)
        size = int(0.94 * head.size_bytes)
        return size, f"{size_text(size)} of the head's file pages while it is packed"


class OnnxMemory:
    """Caches and logits are the runner's; MatMulNBits packs its weights, the file stays mapped."""

    heads_apart: ClassVar[bool] = True
    # On x86 20.79 to 21.01 in 29 runs of three families, 20.87 from folios of a page.
    code_bytes: ClassVar[Mapping[str, int]] = {"aarch64": int(21.5 * MB), "x86_64": int(20.9 * MB)}
    _base_bytes, _layer_bytes = 9.3 * MB, 0.24 * MB

    def packed_bytes(self, tensors: Sequence[TensorEntry]) -> tuple[int, str]:
        products = _products(tensors)
        quantized = [tensor for tensor in products if tensor.bits != 32]
        codes = sum(tensor.shape[0] * _padded(tensor) * tensor.bits // 8 for tensor in quantized)
        # A scale and a sum of codes, in float32.
        blocks = sum(tensor.shape[0] * _blocks(tensor) for tensor in quantized)
        floats = sum(tensor.size_bytes for tensor in products if tensor.bits == 32)
        return codes + 2 * _FLOAT_BYTES * blocks + floats, (
            f"{size_text(codes)} of codes + {blocks:,} blocks x {2 * _FLOAT_BYTES} bytes"
            + (f" + {size_text(floats)} of float32" if floats else "")
        )

    def table_row_bytes(self, table: TensorEntry) -> tuple[float, ...]:
        if table.bits == 32:
            return (_FLOAT_BYTES * table.shape[1],)
        blocks = _blocks(table)
        return (
            _padded(table) * table.bits / 8,
            _FLOAT_BYTES * blocks,
            _zero_point_bytes(table),
        )

    def activation_bytes(
        self, shape: ModelShape, entry: BackendEntry, call_tokens: int, architecture: str
    ) -> tuple[int, str]:
        # What lives at once in the MLP and in attention, of which the arena keeps both: queries
        # several times (split, normed, rotated, turned), keys and values twice each. Fitted to the
        # shapes of Gemma 3, Gemma 2 and Qwen3, which it meets within 1 %.
        columns = 3 * shape.intermediate + 2 * shape.hidden
        columns += 15 * shape.query // 2 + 4 * shape.key_value
        text = f"{call_tokens} tokens x 4 bytes x {columns:,}"
        if entry.options.get("attention") != "unfused":
            return _FLOAT_BYTES * call_tokens * columns, text
        # This kernel keeps a call's scores, as wide as the widest cache.
        slots = max(cache.capacity for cache in entry.caches)
        columns += shape.heads * slots
        return _FLOAT_BYTES * call_tokens * columns, (
            f"{text} + scores of {shape.heads} heads x {slots:,} slots"
        )

    def mapped_bytes(self, shape: ModelShape) -> int:
        return 0

    def heap_bytes(self, shape: ModelShape) -> int:
        return int(self._base_bytes + self._layer_bytes * shape.layers)

    def load_transient(self, tensors: Sequence[TensorEntry], architecture: str) -> tuple[int, str]:
        """Scales and zero points of all products stay mapped until the last one is packed."""
        products = [tensor for tensor in _products(tensors) if tensor.bits != 32]
        head = _head(tensors)
        codes = head.shape[0] * _padded(head) * head.bits // 8
        scales = sum(
            int(t.shape[0] * (_FLOAT_BYTES * _blocks(t) + _zero_point_bytes(t))) for t in products
        )
        # x86 kernels add up the head's blocks apart first.
        sums = 0 if architecture == "aarch64" else _FLOAT_BYTES * head.shape[0] * _blocks(head)
        return codes + scales + sums, (
            f"{size_text(codes)} of the head's file pages while it is packed + "
            f"{size_text(scales)} of all scales" + (f" + {size_text(sums)} of sums" if sums else "")
        )


RUNTIMES: dict[str, RuntimeMemory] = {"executorch": ExecutorchMemory(), "onnx": OnnxMemory()}
# MatMulNBits takes blocks of a power of two up to 256 columns, channels in blocks of 128.
_CHANNEL_BLOCK, _LARGEST_BLOCK = 128, 256


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


def _products(tensors: Sequence[TensorEntry]) -> list[TensorEntry]:
    """Return the weights of products; a table that is only read by row is none."""
    head = _head(tensors)
    return [t for t in tensors if len(t.shape) == 2 and (t.name != _TABLE or t is head)]


def _head(tensors: Sequence[TensorEntry]) -> TensorEntry:
    named = {tensor.name: tensor for tensor in tensors}
    return named.get(_HEAD, named[_TABLE])


def _groups(tensor: TensorEntry) -> int:
    return 1 if tensor.group_size is None else tensor.shape[1] // tensor.group_size
