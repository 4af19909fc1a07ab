"""The tensors that a format writes in place of one weight: found, checked, read as arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pocketlm.models.errors import ModelError
from pocketlm.models.safetensors_files import StoredTensor
from pocketlm.models.stored_weight import DTYPES

FLOATS = tuple(DTYPES)
_WHOLE: Mapping[str, Any] = {"I8": np.int8, "I32": np.int32, "I64": np.int64}


@dataclass(frozen=True)
class PackedTensors:
    """What is stored of one weight.

    Attributes:
        prefix: the weight's published name without "weight": "model.layers.0.mlp.up_proj.".
        shape: [out, in] that config.json gives the weight.
    """

    prefix: str
    shape: tuple[int, int]
    stored: Mapping[str, StoredTensor]

    def find(self, ending: str) -> StoredTensor | None:
        """Return a tensor by the end of its name; None if there is none."""
        return self.stored.get(self.prefix + ending)

    def require(
        self, ending: str, dtypes: Sequence[str], shape: Sequence[int] | None = None
    ) -> StoredTensor:
        """Return a tensor of one of these dtypes and of this shape.

        Raises:
            ModelError: it is missing, or is another.
        """
        name = self.prefix + ending
        tensor = self.stored.get(name)
        if tensor is None:
            raise ModelError(
                f"{name}: missing, although other tensors of the weight are there; download the "
                "checkpoint again"
            )
        if tensor.dtype not in dtypes:
            raise ModelError(
                f"{name}: dtype {tensor.dtype} in {tensor.path.name}, but {' or '.join(dtypes)} "
                "is needed; the checkpoint is damaged or of another format"
            )
        if shape is not None and tensor.shape != tuple(shape):
            raise ModelError(
                f"{name}: shape {list(tensor.shape)} in {tensor.path.name}, but config.json makes "
                f"it {list(shape)}; the two do not belong together"
            )
        return tensor


def groups_of(packed: PackedTensors, group_size: int) -> int:
    """Return the scales of an output channel.

    Raises:
        ModelError: the group size does not divide the input channels.
    """
    in_features = packed.shape[1]
    if group_size < 1 or in_features % group_size:
        raise ModelError(
            f"{packed.prefix}weight: quantization_config has group_size={group_size}, which does "
            f"not divide its {in_features} input channels; use the config.json of these weights"
        )
    return in_features // group_size


def read_whole(tensor: StoredTensor) -> NDArray[Any]:
    """Return a tensor of whole numbers as it is."""
    data = np.frombuffer(tensor.read_bytes(0, tensor.size_bytes), _WHOLE[tensor.dtype])
    return data.reshape(tensor.shape)


def read_float(tensor: StoredTensor) -> NDArray[np.float32]:
    """Return a tensor of real numbers in float32."""
    data = torch.frombuffer(tensor.read_bytes(0, tensor.size_bytes), dtype=DTYPES[tensor.dtype])
    values: NDArray[np.float32] = data.float().reshape(tensor.shape).numpy()
    return values


def is_plain_order(group_of_column: NDArray[Any], group_size: int) -> bool:
    """Say whether each group is columns that adjoin, in order."""
    return bool(np.array_equal(group_of_column, np.arange(group_of_column.size) // group_size))


def group_order(packed: PackedTensors, ending: str, group_size: int) -> NDArray[np.int64] | None:
    """Return the group of each column where groups are not columns that adjoin.

    Raises:
        ModelError: a column is of no group.
    """
    if packed.find(ending) is None:
        return None
    found = read_whole(packed.require(ending, ("I32", "I64"), packed.shape[1:])).astype(np.int64)
    groups = packed.shape[1] // group_size
    if found.min() < 0 or found.max() >= groups:
        raise ModelError(
            f"{packed.prefix}{ending}: names the groups {found.min()} to {found.max()}, but there "
            f"are {groups}; download the checkpoint again"
        )
    return None if is_plain_order(found, group_size) else found
