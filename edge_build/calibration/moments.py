"""Second moments of inputs: what GPTQ spends most of its time on."""

import torch
from torch import Tensor

# Columns that are multiplied at once: few enough that little is computed twice, and many enough
# that products of matrices are as fast as large ones.
_COLUMNS = 1024


def second_moments(x: Tensor) -> Tensor:
    """Return the sum of x xᵀ over tokens, [in, in], of x [tokens, in].

    It is symmetric: blocks below the diagonal are copied, not multiplied.
    """
    size = x.shape[-1]
    found = x.new_empty(size, size)
    for start in range(0, size, _COLUMNS):
        stop = min(start + _COLUMNS, size)
        torch.mm(x[:, start:stop].T, x[:, start:], out=found[start:stop, start:])
        found[stop:, start:stop] = found[start:stop, stop:].T
    return found
