"""What to quantize, as data: schemes, rules, recipes."""

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

from pocketlm.edge_build.errors import BuildError

DEFAULT_METHOD = "round_to_nearest"
# Keeps codes and scales that a checkpoint has; apply.py asks own_grid.py for them.
OWN_GRID_METHOD = "checkpoint_grid"

ScaleDtype = Literal["bfloat16", "float32"]


@dataclass(frozen=True)
class QuantScheme:
    """One integer grid.

    Attributes:
        bits: 4 (codes -8..7) or 8 (codes -127..127).
        group_size: input channels that share a scale; None: one scale per output channel.
        method: file name in edge_build/quantization/methods.
        zero_points: each scale has a zero point, a code; 8 bits have the code -128 too.
        scale_dtype: the shortest type that holds the scales. Methods that choose scales choose
            bfloat16 ones, which every backend has; only a checkpoint's own may be others.
    """

    bits: int
    group_size: int | None = None
    method: str = DEFAULT_METHOD
    zero_points: bool = False
    scale_dtype: ScaleDtype = "bfloat16"

    def __post_init__(self) -> None:
        if self.bits not in (4, 8):
            raise BuildError(f"bits = {self.bits}: give 4 or 8 (32 keeps float32)")
        if self.group_size is not None and (self.group_size < 32 or self.group_size % 32):
            raise BuildError(f"group_size = {self.group_size}: give a multiple of 32")

    @property
    def code_range(self) -> tuple[int, int]:
        """The lowest and the highest code."""
        if self.bits == 4:
            return -8, 7
        return (-128 if self.zero_points else -127), 127

    def groups(self, in_features: int) -> int:
        """Return the scales per output channel."""
        return 1 if self.group_size is None else in_features // self.group_size

    def zero_point_bytes(self, rows: int, in_features: int) -> int:
        """Return the bytes of a weight's zero points, two of 4 bits to a byte."""
        return -(-rows * self.groups(in_features) * self.bits // 8) if self.zero_points else 0


@dataclass(frozen=True)
class QuantRule:
    """The scheme of every weight whose name matches; None keeps float32, for a stated reason."""

    pattern: str
    scheme: QuantScheme | None
    reason: str


@dataclass(frozen=True)
class QuantRecipe:
    """An ordered list of rules; the first that matches a name decides."""

    name: str
    rules: tuple[QuantRule, ...]

    def with_method(self, method: str) -> "QuantRecipe":
        """Return the same grids with codes and scales chosen by another method."""
        rules = (
            replace(rule, scheme=rule.scheme and replace(rule.scheme, method=method))
            for rule in self.rules
        )
        return QuantRecipe(self.name, tuple(rules))

    def rule(self, weight: str) -> QuantRule:
        """Return the rule for a weight, e.g. "layers.0.mlp.up_proj"."""
        for rule in self.rules:
            if fnmatchcase(weight, rule.pattern):
                return rule
        raise BuildError(
            f"recipe {self.name}: no rule matches {weight}; end the recipe with a rule for '*'"
        )
