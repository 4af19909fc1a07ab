"""The functions that torch hands to oneMKL, each called once by one thread.

oneMKL chooses the code of a function at its first call. Two threads that make that call together
may get code of 12 bits for it: pytorch/pytorch#188792, torch 2.13.0 with oneMKL 2024.2.
"""

import torch

# Those of aten/src/ATen/cpu/vml.h.
VECTOR_FUNCTIONS = (
    *("acos", "asin", "atan", "cos", "erf", "erfc", "erfinv", "exp", "expm1", "lgamma", "log"),
    *("log10", "log1p", "log2", "sin", "sinh", "cosh", "sqrt", "tan", "tanh", "trunc"),
)


def initialize_vector_functions() -> None:
    """Call each function on one number of each type: too little for two threads."""
    for name in VECTOR_FUNCTIONS:
        for dtype in (torch.float32, torch.float64):
            getattr(torch, name)(torch.full((1,), 0.5, dtype=dtype))
