"""The quantized weights that every backend reads, and the store that holds them on disk.

No backend quantizes again.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.runtime_py.int4_packing import unpack_int4, unpack_int4_as_float


@dataclass(frozen=True)
class QuantizedWeight:
    """weight[o, i] = (code[o, i] - zero_point[o, i // group_size]) * scale[o, i // group_size].

    Attributes:
        packed: 4 bits: [out, in / 2] uint8 as runtime_py/int4_packing.py defines;
            8 bits: [out, in] int8, the codes themselves.
        scales: [out, groups] float32, positive, each exactly representable in bfloat16 unless the
            scheme says float32.
        zero_points: [out, groups] int8; None for a symmetric scheme.
    """

    packed: NDArray[Any]
    scales: NDArray[np.float32]
    scheme: QuantScheme
    zero_points: NDArray[np.int8] | None = None

    @property
    def out_features(self) -> int:
        return int(self.packed.shape[0])

    @property
    def in_features(self) -> int:
        return int(self.packed.shape[1]) * (2 if self.scheme.bits == 4 else 1)

    @property
    def shape(self) -> tuple[int, int]:
        return self.out_features, self.in_features

    @property
    def group_size(self) -> int:
        """Input channels that share a scale; the whole row where there is one scale per channel."""
        return self.scheme.group_size or self.in_features

    @property
    def size_bytes(self) -> int:
        """Bytes of codes, of scales of two bytes each, and of zero points."""
        zero_bytes = self.scheme.zero_point_bytes(*self.shape)
        return int(self.packed.nbytes) + 2 * int(self.scales.size) + zero_bytes

    def codes(self, start: int = 0, stop: int | None = None) -> NDArray[np.int8]:
        """Return the integer codes of rows start..stop, [rows, in] int8."""
        rows = self.packed[start:stop]
        return unpack_int4(rows) if self.scheme.bits == 4 else np.asarray(rows)

    def dequantized(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Return the weights of rows start..stop, [rows, in] float32."""
        rows = self.packed[start:stop]
        weights = unpack_int4_as_float(rows) if self.scheme.bits == 4 else rows.astype(np.float32)
        grouped = weights.reshape(weights.shape[0], -1, self.group_size)
        if self.zero_points is not None:
            grouped -= np.asarray(self.zero_points[start:stop])[:, :, None]
        grouped *= np.asarray(self.scales[start:stop])[:, :, None]
        return weights


def head_name(names: Container[str]) -> str:
    """Return the weight that makes the logits, of a model's weights: a tied one has no head."""
    return "lm_head" if "lm_head" in names else "embed_tokens"


@dataclass(frozen=True)
class WeightStore:
    """A model's weights in a folder, memory-mapped: quantized ones and the rest in float32.

    Names are the Decoder's without `.weight`: "layers.0.attention.q_proj", "norm". A tied model
    has no "lm_head": both ends read "embed_tokens". Norm weights already hold their offset.

    Attributes:
        schemes: None for a float32 weight.
    """

    folder: Path
    schemes: dict[str, QuantScheme | None]

    def names(self) -> Iterable[str]:
        return self.schemes.keys()

    def head_name(self) -> str:
        """Return the weight that makes the logits: the head, or the tied embedding."""
        return head_name(self.schemes)

    def quantized(self, name: str) -> QuantizedWeight:
        """Map a quantized weight."""
        scheme = self.schemes[name]
        assert scheme is not None, f"{name} is not quantized"
        zero_points = self._map(name, "zero_points") if scheme.zero_points else None
        return QuantizedWeight(
            self._map(name, "codes"), self._map(name, "scales"), scheme, zero_points
        )

    def floating(self, name: str) -> NDArray[np.float32]:
        """Map a float32 weight, [out, in] or [size]."""
        assert self.schemes[name] is None, f"{name} is quantized"
        return self._map(name, "float")

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a weight's shape, [out, in] or [size]."""
        if self.schemes[name] is None:
            return self.floating(name).shape
        return self.quantized(name).shape

    def rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows start..stop in float32, dequantized if need be; the caller owns them."""
        if self.schemes[name] is None:
            return np.array(self.floating(name)[start:stop])
        return self.quantized(name).dequantized(start, stop)

    def _map(self, name: str, part: str) -> NDArray[Any]:
        loaded: NDArray[Any] = np.load(self.folder / f"{name}.{part}.npy", mmap_mode="r")
        return loaded
