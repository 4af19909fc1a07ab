"""How scales and codes are chosen: one file a method with METHOD, found by name."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, TypeAlias

from pocketlm.edge_build.calibration.measured import InputStatistic, InputStatistics
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.runtime_py.errors import unknown_name

if TYPE_CHECKING:
    # Recipes are read where no torch is installed, by `fit`.
    from torch import Tensor

# A block of rows [rows, in] float32 → codes [rows, in] int8, scales [rows, groups] float32, which
# bfloat16 holds exactly
Quantize: TypeAlias = "Callable[[Tensor], tuple[Tensor, Tensor]]"


@dataclass(frozen=True)
class Method:
    """One way to choose codes and scales.

    Attributes:
        prepare: scheme and statistics of one weight → what quantizes its rows, block by block and
            in several threads.
        statistics: of the layer's inputs, which calibration then measures.
        prepared_bytes: input channels → what `prepare` holds at its highest point.
    """

    prepare: Callable[[QuantScheme, InputStatistics], Quantize]
    statistics: tuple[InputStatistic, ...] = ()
    prepared_bytes: Callable[[int], int] = lambda in_features: 0


def names() -> tuple[str, ...]:
    """Return the methods, by file name."""
    return tuple(sorted(module.name for module in iter_modules(__path__)))


def load(name: str) -> Method:
    """Return a method by file name."""
    if name not in names():
        raise BuildError(unknown_name("method", name, names()))
    method: Method = import_module(f"{__name__}.{name}").METHOD
    return method
