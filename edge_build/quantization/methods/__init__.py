"""How scales and codes are chosen: one file a method with METHOD, found by name.

Two methods that work together are joined by a plus: awq+gptq is awq_then_gptq.py.
"""

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

# What stands in a file's name for the plus of a method's.
_THEN = "_then_"

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
        folds: input channels are scaled before anything is quantized (quantization/folds.py).
    """

    prepare: Callable[[QuantScheme, InputStatistics], Quantize]
    statistics: tuple[InputStatistic, ...] = ()
    prepared_bytes: Callable[[int], int] = lambda in_features: 0
    folds: bool = False

    @property
    def needs_text(self) -> bool:
        """Whether the method reads a calibration text."""
        return bool(self.statistics) or self.folds


def names() -> tuple[str, ...]:
    """Return the methods, by file name."""
    return tuple(sorted(module.name.replace(_THEN, "+") for module in iter_modules(__path__)))


def load(name: str) -> Method:
    """Return a method by name."""
    if name not in names():
        raise BuildError(unknown_name("method", name, names()))
    method: Method = import_module(f"{__name__}.{name.replace('+', _THEN)}").METHOD
    return method
