"""Bits a weight → the bytes that a model's weights may have, and the schemes to spend them on."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.mixed_precision.budget import Choice, spend
from pocketlm.edge_build.quantization import methods
from pocketlm.edge_build.quantization.entries import tensor_entry
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.models.checkpoint import Checkpoint

# The first is measured, the others follow from it. Both backends multiply by all of them.
_SCHEMES = (*(QuantScheme(4, size) for size in (32, 64, 128)), QuantScheme(8))
_TABLE_SCHEMES = (QuantScheme(4, 32), QuantScheme(8))


@dataclass(frozen=True)
class RecipeBudget:
    """Bytes that quantized weights may have, and the schemes to spend them on.

    Attributes:
        schemes: that each matrix can have, the one to measure first.
    """

    method: str
    schemes: Mapping[str, tuple[QuantScheme, ...]]
    sizes: Mapping[tuple[str, QuantScheme], int]
    model: "ModelBytes"
    size_bytes: int

    @classmethod
    def of(cls, checkpoint: Checkpoint, bits_per_weight: float, method: str) -> "RecipeBudget":
        """Return the budget of a model; reads no weight.

        Raises:
            BuildError: an unknown method, or fewer bits than the smallest recipe has.
        """
        methods.load(method)
        schemes, model = _schemes(checkpoint, method), ModelBytes.of(checkpoint)
        sizes = {
            (name, scheme): tensor_entry(name, checkpoint.shape(name), scheme, "").size_bytes
            for name, offered in schemes.items()
            for scheme in offered
        }
        smallest = sum(min(sizes[name, s] for s in offered) for name, offered in schemes.items())
        return cls(method, schemes, sizes, model, model.budget(bits_per_weight, smallest))

    def spent(self, cost: Callable[[str, QuantScheme], float]) -> dict[str, Choice]:
        """Return a scheme for each weight.

        Args:
            cost: weight and scheme → what the model loses, in nats.
        """
        choices = {
            name: [Choice(s, self.sizes[name, s], cost(name, s)) for s in offered]
            for name, offered in self.schemes.items()
        }
        return spend(choices, self.size_bytes)

    def unmeasured(self) -> dict[str, Choice]:
        """Return schemes of about as many bytes as the measured ones will have."""
        return self.spent(lambda name, scheme: -float(self.sizes[name, scheme]))


@dataclass(frozen=True)
class ModelBytes:
    """How bits a weight and bytes of quantized weights follow from each other.

    Attributes:
        norm_bytes: of what stays in float32.
    """

    elements: int
    norm_bytes: int

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "ModelBytes":
        shapes = checkpoint.shapes.values()
        norms = sum(4 * math.prod(shape) for shape in shapes if len(shape) == 1)
        return cls(sum(map(math.prod, shapes)), norms)

    def budget(self, bits_per_weight: float, smallest_bytes: int) -> int:
        """Return the bytes for quantized weights, which are `smallest_bytes` at least."""
        budget = int(bits_per_weight * self.elements / 8) - self.norm_bytes
        if budget < smallest_bytes:
            least = math.ceil(800 * (smallest_bytes + self.norm_bytes) / self.elements) / 100
            raise BuildError(
                f"--bits-per-weight {bits_per_weight:g}: the smallest recipe of this model has "
                f"{least:g}; give that or more"
            )
        return budget

    def bits_per_weight(self, quantized_bytes: int) -> float:
        return round(8 * (quantized_bytes + self.norm_bytes) / self.elements, 3)


def _schemes(checkpoint: Checkpoint, method: str) -> dict[str, tuple[QuantScheme, ...]]:
    """Return the schemes that each matrix can have, the one to measure first."""
    found = {}
    for name, shape in checkpoint.shapes.items():
        if len(shape) == 1:
            continue
        offered = _TABLE_SCHEMES if name in ("embed_tokens", "lm_head") else _SCHEMES
        fitting = [s for s in offered if s.group_size is None or shape[1] % s.group_size == 0]
        # Too narrow for groups: a scale a channel.
        chosen = fitting if len(fitting) > 1 else [QuantScheme(4), QuantScheme(8)]
        found[name] = tuple(replace(scheme, method=method) for scheme in chosen)
    return found
