"""Quantized checkpoints of other tools: one file a format with FORMAT, found by name.

A file is named as config.json names its method, `quant_method`, with "_" for "-".
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from pocketlm.models.coded_slice import CodedWeight
from pocketlm.models.packed_tensors import PackedTensors

NAMES = tuple(sorted(module.name for module in iter_modules(__path__)))
_CONFIG_KEYS = ("quantization_config", "compression_config")

# The tensors of one weight → the weight
OpenWeight = Callable[[PackedTensors], CodedWeight]


@dataclass(frozen=True)
class Format:
    """One way to store weights as codes.

    Attributes:
        title: what people call it.
        endings: of the names of its tensors, in place of "weight"; the first is the codes'.
        prepare: quantization_config → what opens weights. Raises ModelError for what is not read.
        notes: what a build prints for the user, from quantization_config.
    """

    title: str
    endings: tuple[str, ...]
    prepare: Callable[[Mapping[str, Any]], OpenWeight]
    notes: Callable[[Mapping[str, Any]], tuple[str, ...]] = lambda settings: ()

    def claims(self, name: str) -> bool:
        """Say whether a tensor is of this format."""
        return name.rpartition(".")[2] in self.endings


@dataclass(frozen=True)
class FoundFormat:
    """The format of one checkpoint, ready to open its weights."""

    format: Format
    open_weight: OpenWeight
    notes: tuple[str, ...]


def load(name: str) -> Format:
    """Return a format by its file's name, one of NAMES."""
    found: Format = import_module(f"{__name__}.{name}").FORMAT
    return found


def find_format(published: Mapping[str, Any], names: Iterable[str]) -> FoundFormat | None:
    """Return the format that config.json names, if it is known and tensors are of it.

    Args:
        names: of the tensors.

    Raises:
        ModelError: a setting of the format is not read.
    """
    for key in _CONFIG_KEYS:
        settings = published.get(key)
        if isinstance(settings, dict) and isinstance(settings.get("quant_method"), str):
            name = settings["quant_method"].lower().replace("-", "_")
            if name in NAMES:
                format = load(name)
                if any(map(format.claims, names)):
                    return FoundFormat(format, format.prepare(settings), format.notes(settings))
    return None
