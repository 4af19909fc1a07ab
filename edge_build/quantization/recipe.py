"""What to quantize, as data: schemes, rules, recipes."""

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from pocketlm.edge_build.errors import BuildError

DEFAULT_METHOD = "round_to_nearest"


@dataclass(frozen=True)
class QuantScheme:
    """One symmetric integer grid.

    Attributes:
        bits: 4 (codes -8..7) or 8 (codes -127..127).
        group_size: input channels that share a scale; None: one scale per output channel.
        method: file name in edge_build/quantization/methods.
    """

    bits: int
    group_size: int | None = None
    method: str = DEFAULT_METHOD

    def __post_init__(self) -> None:
        if self.bits not in (4, 8):
            raise BuildError(f"bits = {self.bits}: give 4 or 8 (32 keeps float32)")
        if self.group_size is not None and (self.group_size < 32 or self.group_size % 32):
            raise BuildError(f"group_size = {self.group_size}: give a multiple of 32")

    def groups(self, in_features: int) -> int:
        """Return the scales per output channel."""
        return 1 if self.group_size is None else in_features // self.group_size


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
