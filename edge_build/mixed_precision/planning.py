"""plan_recipe(): a checkpoint and bits per weight → the recipe."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pocketlm.edge_build.calibration.measured import Sequences
from pocketlm.edge_build.calibration.running import own_sequences
from pocketlm.edge_build.calibration.text import built_in_sequences, text_sequences
from pocketlm.edge_build.mixed_precision.budget import Choice
from pocketlm.edge_build.mixed_precision.kept_sensitivities import (
    KeptSensitivities,
    kept_sensitivities,
)
from pocketlm.edge_build.mixed_precision.recipe_budget import RecipeBudget
from pocketlm.edge_build.mixed_precision.recipe_writing import recipe_toml
from pocketlm.edge_build.mixed_precision.sensitivity import (
    SENSITIVITY_TOKENS,
    STATISTICS_SEQUENCES,
    measure_sensitivities,
)
from pocketlm.edge_build.quantization import methods
from pocketlm.edge_build.quantization.fold_search import FoldSearch, find_folds
from pocketlm.edge_build.quantization.folds import FoldedCheckpoint, possible_groups
from pocketlm.edge_build.reference import reference_threads
from pocketlm.edge_build.text.checkpoint_files import CheckpointFiles
from pocketlm.edge_build.text_files import read_text_files
from pocketlm.models.checkpoint import Checkpoint


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
    checkpoint: Checkpoint,
    budget: RecipeBudget,
    calibration_text: Path | None,
    report: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> PlannedRecipe:
    """Choose bits and groups of every weight within a budget.

    What is measured is kept in the user's cache, weight by weight: a run that was killed goes on,
    and another budget measures nothing.

    Args:
        calibration_text: file of text to measure on; None is the model's own where the method needs
            data, else the built-in text.
        report: called with (done, of, weight).

    Raises:
        BuildError: the text is too short, or a weight is not finite.
    """
    method, elements = budget.method, budget.model.elements
    with tempfile.TemporaryDirectory() as statistics, reference_threads(elements):
        given = _given_text(checkpoint, calibration_text, method)
        report(0, len(budget.schemes), "checkpoint")
        kept = kept_sensitivities(checkpoint.digest(), given, budget.schemes)
        sequences = given or _own_text(checkpoint, kept, report)
        folder = Path(statistics)
        view = _folded(checkpoint, budget, sequences, kept.folds_folder(folder), report)
        found = measure_sensitivities(view, sequences, budget.schemes, folder, kept, report)
    chosen = budget.spent(lambda name, scheme: found[name].predicted(scheme))
    bits = budget.model.bits_per_weight(sum(choice.size_bytes for choice in chosen.values()))
    kl = sum(choice.kl_nats for choice in chosen.values())
    opening = (
        f"{bits:g} bits a weight, for {checkpoint.folder.name} and method {method}. Written by\n"
        "pocketlm; edit it freely, and build with --recipe. Single weights alone cost in sum\n"
        f"{kl:.3g} nats of KL divergence."
    )
    return PlannedRecipe(recipe_toml(chosen, opening), bits, kl, chosen)


def _folded(
    checkpoint: Checkpoint,
    budget: RecipeBudget,
    sequences: Sequences,
    folder: Path,
    report: Callable[[int, int, str], None],
) -> Checkpoint:
    """Return what a method that scales input channels quantizes."""
    if not methods.load(budget.method).folds:
        return checkpoint
    # The backend is not known: nothing is rounded but weights.
    groups = possible_groups(checkpoint.config)
    schemes = {name: offered[0] for name, offered in budget.schemes.items()}
    search = FoldSearch(groups, schemes, sequences, "none")
    return FoldedCheckpoint.of(checkpoint, find_folds(checkpoint, search, folder, report))


def _given_text(
    checkpoint: Checkpoint, calibration_text: Path | None, method: str
) -> Sequences | None:
    """Return the user's text or the built-in one; None where the model writes its own."""
    text = read_text_files(CheckpointFiles.of(checkpoint), checkpoint.config)
    if calibration_text is not None:
        found = text_sequences(calibration_text, text, _longest(checkpoint))
    elif methods.load(method).needs_text:
        return None
    else:
        found = built_in_sequences(text, _longest(checkpoint))
    return found[:STATISTICS_SEQUENCES]


def _own_text(
    checkpoint: Checkpoint, kept: KeptSensitivities, report: Callable[[int, int, str], None]
) -> Sequences:
    """Return what a build would calibrate on without a text."""
    before = kept.read_text()
    if before is not None:
        return before
    text = read_text_files(CheckpointFiles.of(checkpoint), checkpoint.config)
    parts = "tokens of own texts"
    found = own_sequences(
        checkpoint, text, _longest(checkpoint), lambda done, total: report(done, total, parts)
    )[:STATISTICS_SEQUENCES]
    kept.write_text(found)
    return found


def _longest(checkpoint: Checkpoint) -> int:
    return min(checkpoint.config.max_position_embeddings, SENSITIVITY_TOKENS)
