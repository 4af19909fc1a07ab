"""The first stages of a build, which training begins with too: calibrate, quantize."""

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
from pocketlm.edge_build.reference import reference_threads
from pocketlm.edge_build.stages import Stages


def calibrate_stage(prepared: Preparation, stages: Stages) -> CalibrationStore | None:
    """Choose the calibration text and measure the float model on it, where something needs it."""
    if "calibrate" not in stages.names:
        return None
    return stages.run(
        "calibrate",
        lambda folder, advance: calibrate(prepared, folder, advance),
        stage_results.calibration_format(prepared.float_statistics[0]),
    )


def quantize_stage(
    prepared: Preparation, calibration: CalibrationStore | None, stages: Stages
) -> QuantizedModel:
    """Choose codes and scales of every weight."""
    # Both backends have the same codes; what the first rounds stands for all.
    activations = prepared.backends[0].activations
    calibrated = Calibrated(calibration, activations) if calibration else None

    def work(folder: Path, advance: Advance) -> QuantizedModel:
        # Weights that are rounded by themselves go through every core, and in seconds.
        threads = reference_threads(prepared.parameters) if calibrated else nullcontext()
        key = stages.key if calibrated else None
        with threads:
            return quantize_weights(
                prepared.checkpoint, prepared.rules, folder, advance, calibrated, key
            )

    kept = stage_results.quantized_format(prepared.rules)
    return stages.run("quantize", work, kept, unit="bytes")


def measured_kv_scales(calibration: CalibrationStore | None) -> KvScales | None:
    """Return the constant scales of int8 caches; None where no backend has any."""
    if calibration is None or "kv_bounds" not in calibration:
        return None
    return scales_of(calibration.kv_bounds())
