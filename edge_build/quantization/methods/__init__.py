"""How scales and codes are chosen: one file a method with METHOD, found by name."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, TypeAlias

from pocketlm.edge_build.calibration.measured import InputStatistic, InputStatistics
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.quantization.recipe import QuantScheme

if TYPE_CHECKING:
    # Recipes are read where no torch is installed, by `fit`.
    from torch import Tensor

# [rows, in] float32, scheme, inputs → codes [rows, in] int8, scales [rows, groups] float32, which
# bfloat16 holds exactly
Quantize: TypeAlias = "Callable[[Tensor, QuantScheme, InputStatistics], tuple[Tensor, Tensor]]"


@dataclass(frozen=True)
class Method:
    """One way to choose codes and scales of a block of rows.

    Attributes:
        statistics: of the layer's inputs, which calibration then measures.
    """

    quantize: Quantize
    statistics: tuple[InputStatistic, ...] = ()


def names() -> tuple[str, ...]:
    """Return the methods, by file name."""
    return tuple(sorted(module.name for module in iter_modules(__path__)))


def load(name: str) -> Method:
    """Return a method by file name."""
    if name not in names():
        raise BuildError(f"quantization method {name!r} is unknown; known: {', '.join(names())}")
    method: Method = import_module(f"{__name__}.{name}").METHOD
    return method
