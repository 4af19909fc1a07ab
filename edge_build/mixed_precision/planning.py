"""plan_recipe(): a checkpoint and bits per weight → the recipe."""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pocketlm.edge_build.calibration.measured import Sequences
from pocketlm.edge_build.calibration.running import own_sequences
from pocketlm.edge_build.calibration.text import built_in_sequences, text_sequences
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.mixed_precision.budget import Choice, spend
from pocketlm.edge_build.mixed_precision.recipe_writing import recipe_toml
from pocketlm.edge_build.mixed_precision.sensitivity import (
    SENSITIVITY_TOKENS,
    STATISTICS_SEQUENCES,
    measure_sensitivities,
)
from pocketlm.edge_build.quantization import methods
from pocketlm.edge_build.quantization.entries import tensor_entry
from pocketlm.edge_build.quantization.recipe import DEFAULT_METHOD, QuantScheme
from pocketlm.edge_build.reference import reference_threads
from pocketlm.edge_build.text.checkpoint_files import CheckpointFiles
from pocketlm.edge_build.text_files import read_text_files
from pocketlm.models.checkpoint import Checkpoint, open_checkpoint

# The first is measured, the others follow from it. Both backends multiply by all of them.
_SCHEMES = (*(QuantScheme(4, size) for size in (32, 64, 128)), QuantScheme(8))
_TABLE_SCHEMES = (QuantScheme(4, 32), QuantScheme(8))


@dataclass(frozen=True)
class PlannedRecipe:
    """A mixed-precision recipe.

    Attributes:
        toml: of the recipe file.
        bits_per_weight: with scales, and with float32 norms.
        predicted_kl_nats: the sum of what single weights cost alone.
        chosen: of each quantized weight.
    """

    toml: str
    bits_per_weight: float
    predicted_kl_nats: float
    chosen: dict[str, Choice]


def plan_recipe(
    folder: Path,
    bits_per_weight: float,
    calibration_text: Path | None,
    method: str = DEFAULT_METHOD,
    report: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> PlannedRecipe:
    """Choose bits and groups of every weight so that the model has these bits a weight at most.

    Args:
        calibration_text: file of text to measure on; None is the model's own where the method needs
            data, else the built-in text.
        method: what the recipe is meant for; each weight is quantized by it.
        report: called with (done, of, weight).

    Raises:
        ModelError, BuildError: the checkpoint, the text or the budget do not allow it.
    """
    checkpoint = open_checkpoint(folder)
    methods.load(method)
    schemes, bytes_of = _schemes(checkpoint, method), _ModelBytes.of(checkpoint)
    sizes = {
        (name, scheme): tensor_entry(name, checkpoint.shape(name), scheme, "").size_bytes
        for name, offered in schemes.items()
        for scheme in offered
    }
    smallest = sum(min(sizes[name, s] for s in offered) for name, offered in schemes.items())
    budget = bytes_of.budget(bits_per_weight, smallest)
    sequences = _sequences(checkpoint, calibration_text, method, report)
    with tempfile.TemporaryDirectory() as statistics, reference_threads(bytes_of.elements):
        found = measure_sensitivities(checkpoint, sequences, schemes, Path(statistics), report)
    choices = {
        name: [Choice(s, sizes[name, s], found[name].predicted(s)) for s in offered]
        for name, offered in schemes.items()
    }
    chosen = spend(choices, budget)
    bits = bytes_of.bits_per_weight(sum(choice.size_bytes for choice in chosen.values()))
    kl = sum(choice.kl_nats for choice in chosen.values())
    opening = (
        f"{bits:g} bits a weight, for {folder.name} and method {method}. Written by pocketlm\n"
        "recipe; edit it freely, and build with --recipe. Single weights alone cost in sum\n"
        f"{kl:.3g} nats of KL divergence."
    )
    return PlannedRecipe(recipe_toml(chosen, opening), bits, kl, chosen)


@dataclass(frozen=True)
class _ModelBytes:
    """How bits a weight and bytes of quantized weights follow from each other.

    Attributes:
        norm_bytes: of what stays in float32.
    """

    elements: int
    norm_bytes: int

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "_ModelBytes":
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


def _sequences(
    checkpoint: Checkpoint,
    calibration_text: Path | None,
    method: str,
    report: Callable[[int, int, str], None],
) -> Sequences:
    """Return the user's text, or what a build would calibrate on in its place."""
    text = read_text_files(CheckpointFiles.of(checkpoint), checkpoint.config)
    context_length = min(checkpoint.config.max_position_embeddings, SENSITIVITY_TOKENS)
    if calibration_text is not None:
        found = text_sequences(calibration_text, text, context_length)
    elif methods.load(method).statistics:
        parts = "tokens of own texts"
        found = own_sequences(
            checkpoint, text, context_length, lambda done, total: report(done, total, parts)
        )
    else:
        found = built_in_sequences(text, context_length)
    return found[:STATISTICS_SEQUENCES]


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
