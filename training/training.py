"""run_training(spec): checkpoint → calibrate → quantize → train → a checkpoint of codes."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pocketlm.edge_build.calibration.measured import CalibrationStore
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.progress import Advance, Notify, StagesPlanned, ignore
from pocketlm.edge_build.quantization.fold_search import read_folds
from pocketlm.edge_build.quantization.folds import (
    NO_FOLDS,
    FoldedCheckpoint,
    Folds,
)
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.edge_build.stages import PARTS_NAME, ResultFormat, Stages, run_unkept
from pocketlm.edge_build.staging import (
    BUNDLE_NAME,
    refuse_appeared,
    remove_remains,
    require_space,
    staging,
    working_folder,
)
from pocketlm.edge_build.weight_stages import (
    calibrate_stage,
    fold_stage,
    measured_kv_scales,
    quantize_stage,
)
from pocketlm.runtime_py.typed_json import read_as
from pocketlm.training.exporting import write_trained
from pocketlm.training.loss_curve import CURVE_NAME, draw_loss_curve
from pocketlm.training.preparation import QatPreparation, prepare_training
from pocketlm.training.processes import Processes, joined_processes
from pocketlm.training.spec import QatSpec
from pocketlm.training.state import STATE_NAME
from pocketlm.training.trainer import Start, Trained, train

# Not kept for a later run: reading the weights once, for their digest.
_CHECKPOINT = "checkpoint"
_TRAIN = "train"
RECORD_NAME = "training.json"


@dataclass(frozen=True)
class QatResult:
    """What a training has come to.

    Attributes:
        recipe: its name.
        teacher: its path; None is the student before it was quantized.
        tokens: read in all steps together.
        held_out_tokens: that are measured.
        losses: mean KL divergence from the teacher in each step, in nats.
        held_out_kl_nats: by backend: (steps done, mean KL divergence) from the start to the end.
    """

    recipe: str
    teacher: str | None
    steps: int
    tokens: int
    held_out_tokens: int
    losses: tuple[float, ...]
    held_out_kl_nats: Mapping[str, tuple[tuple[float, float], ...]]


def run_training(spec: QatSpec, notify: Notify = ignore) -> QatResult | None:
    """Train at `spec.out` a checkpoint that is on its grid, whole or not at all.

    Of several processes that torchrun started, the first returns the result.

    Raises:
        ModelError, BuildError: the checkpoints, the text, the options or the disk do not allow it.
    """
    with joined_processes(spec.device) as processes:
        if not processes.is_first:
            # By then the first has checked the same and written the codes to start from.
            if processes.hear():
                _follow(prepare_training(spec), processes)
            return None
        remove_remains(spec.out)
        prepared = prepare_training(spec)
        refuse_uneven(spec, processes)
        with staging(spec.out, spec.fresh) as folder:
            return _lead(prepared, processes, folder, notify)


def _lead(
    prepared: QatPreparation, processes: Processes, folder: Path, notify: Notify
) -> QatResult:
    start, spec = prepared.start, prepared.spec
    names = [name for name in start.stage_names if name in ("calibrate", "fold", "quantize")]
    notify(StagesPlanned((_CHECKPOINT, *names, _TRAIN)))
    checkpoint_sha256 = run_unkept(_CHECKPOINT, start.checkpoint.digest, notify)
    stages = Stages(folder, prepared.key(checkpoint_sha256), (*names, _TRAIN), notify)
    # Parameters and two moments of each, twice while they are replaced.
    require_space(folder, start.weight_bytes + 24 * start.parameters - stages.kept_bytes)
    calibration = calibrate_stage(start, stages)
    folds = fold_stage(start, calibration, stages)
    quantized = quantize_stage(start, calibration, folds, stages)
    begin = _start(prepared, calibration, folds, quantized.weights)

    def work(trained_folder: Path, advance: Advance) -> QatResult:
        (trained_folder / PARTS_NAME).write_text(stages.key, encoding="ascii")
        processes.hear(said=True)
        trained = train(
            prepared,
            begin,
            trained_folder,
            processes,
            lambda done, total, what: advance(_TRAIN, done, total, what),
        )
        return _write(prepared, trained, trained_folder)

    if _TRAIN in stages.finished:
        processes.hear(said=False)
    result = stages.run(_TRAIN, work, _RESULT)
    refuse_appeared(spec.out)
    bundle = folder / BUNDLE_NAME
    bundle.mkdir(exist_ok=True)
    stages.move_files(_TRAIN, bundle)
    return result


def _follow(prepared: QatPreparation, processes: Processes) -> None:
    """Train beside the first process, which has written the codes."""
    folder, start = working_folder(prepared.spec.out), prepared.start
    schemes = {name: rule.scheme for name, rule in start.rules.items()}
    calibration = None
    if "calibrate" in start.stage_names:
        calibration = CalibrationStore(folder / "calibrate", start.float_statistics[0])
    groups = start.fold_groups
    folds = read_folds(groups, folder / "fold") if groups else NO_FOLDS
    begin = _start(prepared, calibration, folds, WeightStore(folder / "quantize", schemes))
    train(prepared, begin, folder / _TRAIN, processes, lambda done, total, what: None)


def _start(
    prepared: QatPreparation,
    calibration: CalibrationStore | None,
    folds: Folds,
    weights: WeightStore,
) -> Start:
    checkpoint = prepared.start.checkpoint
    kv_scales = measured_kv_scales(calibration, folds, checkpoint.config)
    return Start(FoldedCheckpoint.of(checkpoint, folds), weights, kv_scales)


def refuse_uneven(spec: QatSpec, processes: Processes) -> None:
    """Raise BuildError where processes would have batches of different sizes."""
    if spec.batch % processes.count:
        raise BuildError(
            f"--batch {spec.batch}: {processes.count} processes cannot share it evenly; give a "
            f"multiple of {processes.count}"
        )


def _write(prepared: QatPreparation, trained: Trained, folder: Path) -> QatResult:
    """Write the checkpoint, the record and the picture, and remove what only training needs."""
    start, spec, progress = prepared.start, prepared.spec, trained.progress
    write_trained(start.checkpoint, start.rules, trained.weights, start.text.files, folder)
    result = QatResult(
        recipe=start.recipe.name,
        teacher=None if spec.teacher is None else str(spec.teacher),
        steps=spec.steps,
        tokens=spec.steps * spec.batch * spec.sequence_length,
        held_out_tokens=prepared.text.held_out.numel(),
        losses=tuple(progress.losses),
        held_out_kl_nats={
            way: tuple((row[0], row[1 + place]) for row in progress.held_out)
            for place, way in enumerate(trained.ways)
        },
    )
    text = json.dumps(asdict(result), indent=1) + "\n"
    (folder / RECORD_NAME).write_text(text, encoding="utf-8")
    draw_loss_curve(progress, trained.ways, folder / CURVE_NAME)
    for name in (STATE_NAME, PARTS_NAME):
        (folder / name).unlink(missing_ok=True)
    return result


def _read_result(document: Mapping[str, Any], folder: Path) -> QatResult:
    return read_as(QatResult, document)


_RESULT: ResultFormat[QatResult] = ResultFormat(lambda result, folder: asdict(result), _read_result)
