"""How scales and codes are chosen: one file a method, found by name."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from torch import Tensor

from edge_build.errors import BuildError
from edge_build.quantization.recipe import QuantScheme

# [rows, in] float32, scheme → codes [rows, in] int8, scales [rows, groups] float32 (bf16 values)
Method = Callable[[Tensor, QuantScheme], tuple[Tensor, Tensor]]

NAMES = tuple(
    sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))
)


def load(name: str) -> Method:
    """Return a method's `quantize` function by file name."""
    if name not in NAMES:
        raise BuildError(f"quantization method {name!r} is unknown; known: {', '.join(NAMES)}")
    method: Method = import_module(f"{__name__}.{name}").quantize
    return method
