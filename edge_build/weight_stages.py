"""The first stages of a build, which training begins with too: calibrate, fold, quantize."""

from contextlib import nullcontext
from pathlib import Path

from pocketlm.edge_build import stage_results
from pocketlm.edge_build.calibration.measured import CalibrationStore
from pocketlm.edge_build.calibration.running import calibrate
from pocketlm.edge_build.kv_scales import KvScales, scales_of
from pocketlm.edge_build.preparation import Preparation
from pocketlm.edge_build.progress import Advance
from pocketlm.edge_build.quantization.apply import (
    Calibrated,
    QuantizedModel,
    quantize_weights,
)
from pocketlm.edge_build.quantization.fold_search import FoldSearch, find_folds
from pocketlm.edge_build.quantization.folds import NO_FOLDS, FoldedCheckpoint, Folds
from pocketlm.edge_build.reference import reference_threads
from pocketlm.edge_build.stages import Stages, keep_parts
from pocketlm.models.config import ModelConfig


def calibrate_stage(prepared: Preparation, stages: Stages) -> CalibrationStore | None:
    """Choose the calibration text and measure the float model on it, where something needs it."""
    if "calibrate" not in stages.names:
        return None
    return stages.run(
        "calibrate",
        lambda folder, advance: calibrate(prepared, folder, advance),
        stage_results.calibration_format(prepared.float_statistics[0]),
    )


def fold_stage(
    prepared: Preparation, calibration: CalibrationStore | None, stages: Stages
) -> Folds:
    """Choose what scales input channels before weights are rounded, where a method wants it."""
    groups = prepared.fold_groups
    if not groups:
        return NO_FOLDS
    assert calibration is not None, "a method that folds is given a text"
    search = FoldSearch(
        groups,
        {name: rule.scheme for name, rule in prepared.rules.items()},
        calibration.sequences,
        prepared.backends[0].activations,
    )

    def work(folder: Path, advance: Advance) -> Folds:
        keep_parts(folder, stages.key)
        with reference_threads(prepared.parameters):
            return find_folds(
                prepared.checkpoint,
                search,
                folder,
                lambda done, total, what: advance("fold", done, total, what),
            )

    return stages.run("fold", work, stage_results.folds_format(groups))


def quantize_stage(
    prepared: Preparation, calibration: CalibrationStore | None, folds: Folds, stages: Stages
) -> QuantizedModel:
    """Choose codes and scales of every weight."""
    # Both backends have the same codes; what the first rounds stands for all.
    activations = prepared.backends[0].activations
    calibrated = Calibrated(calibration, activations) if calibration else None
    checkpoint = FoldedCheckpoint.of(prepared.checkpoint, folds)

    def work(folder: Path, advance: Advance) -> QuantizedModel:
        # Weights that are rounded by themselves go through every core, and in seconds.
        threads = reference_threads(prepared.parameters) if calibrated else nullcontext()
        key = stages.key if calibrated else None
        with threads:
            return quantize_weights(checkpoint, prepared.rules, folder, advance, calibrated, key)

    kept = stage_results.quantized_format(prepared.rules)
    return stages.run("quantize", work, kept, unit="bytes")


def measured_kv_scales(
    calibration: CalibrationStore | None, folds: Folds, config: ModelConfig
) -> KvScales | None:
    """Return the constant scales of int8 caches; None where no backend has any."""
    if calibration is None or "kv_bounds" not in calibration:
        return None
    return scales_of(folds.of_kv_bounds(calibration.kv_bounds(), config))
