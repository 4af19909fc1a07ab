"""build(spec): checkpoint → calibrate, fold → quantize → kv → lower → golden answers → bundle."""

from dataclasses import replace
from pathlib import Path

from pocketlm.edge_build import stage_results
from pocketlm.edge_build.backend import Artifact, Backend, LoweringInput
from pocketlm.edge_build.build_key import build_key
from pocketlm.edge_build.bundling import StagedParts, write_manifest, write_text
from pocketlm.edge_build.golden import record_golden, untouched_notes
from pocketlm.edge_build.kv_measuring import KvMeasurements, measure_kv
from pocketlm.edge_build.kv_scales import KvScales
from pocketlm.edge_build.lowered_cache import NO_CACHE, LoweredCache, user_lowered_cache
from pocketlm.edge_build.memory_limit import estimate_memory
from pocketlm.edge_build.memory_prediction import RECIPE_STAGE
from pocketlm.edge_build.mixed_precision.planning import plan_recipe
from pocketlm.edge_build.mixed_precision.recipe_budget import RecipeBudget
from pocketlm.edge_build.preparation import KV_STAGE, Preparation, prepare
from pocketlm.edge_build.progress import (
    Advance,
    Notice,
    Notify,
    StageAdvanced,
    StagesPlanned,
    ignore,
)
from pocketlm.edge_build.quantization.recipe import DEFAULT_METHOD
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.edge_build.stages import Stages, run_unkept
from pocketlm.edge_build.staging import (
    BUNDLE_NAME,
    refuse_appeared,
    remove_remains,
    require_space,
    staging,
)
from pocketlm.edge_build.weight_stages import (
    calibrate_stage,
    fold_stage,
    measured_kv_scales,
    quantize_stage,
)
from pocketlm.runtime_py.manifest import Manifest

# Not kept for a later run: reading the weights once, for their digest.
_CHECKPOINT = "checkpoint"
# Nor this: runner files, and what the installed runtimes make of them.
_TEXT = "text"


def build(spec: BuildSpec, notify: Notify = ignore) -> Manifest:
    """Build a device bundle at `spec.out`, whole or not at all.

    What a build finished before it was interrupted is taken over when the same is built again.

    Raises:
        ModelError, BuildError: the checkpoint, the options, memory or disk do not allow it.
    """
    remove_remains(spec.out)
    prepared = prepare(spec)
    estimate_memory(prepared).check(notify)
    planning = () if spec.bits_per_weight is None else (RECIPE_STAGE,)
    names = (*planning, _CHECKPOINT, *prepared.stage_names, _TEXT)
    if planning:
        notify(StagesPlanned(names))
        prepared = _plan(prepared, notify)
    with staging(spec.out, spec.fresh, spec.replace) as folder:
        if not planning:
            notify(StagesPlanned(names))
        checkpoint_sha256 = run_unkept(_CHECKPOINT, prepared.checkpoint.digest, notify)
        key = build_key(prepared, checkpoint_sha256)
        stages = Stages(folder, key, prepared.stage_names, notify)
        require_space(folder, prepared.disk_bytes - stages.kept_bytes)
        return _build(prepared, checkpoint_sha256, stages)


def _plan(prepared: Preparation, notify: Notify) -> Preparation:
    """Return the build with a recipe that was planned for it."""
    spec = prepared.spec
    assert spec.bits_per_weight is not None, "a budget"
    method = spec.method or DEFAULT_METHOD
    budget = RecipeBudget.of(prepared.checkpoint, spec.bits_per_weight, method)

    def report(done: int, total: int, what: str) -> None:
        notify(StageAdvanced(RECIPE_STAGE, done, total, "steps", what))

    planned = run_unkept(
        RECIPE_STAGE,
        lambda: plan_recipe(prepared.checkpoint, budget, spec.calibration_text, report),
        notify,
    )
    return prepare(spec, planned.toml)


def _build(prepared: Preparation, checkpoint_sha256: str, stages: Stages) -> Manifest:
    calibration = calibrate_stage(prepared, stages)
    folds = fold_stage(prepared, calibration, stages)
    quantized = quantize_stage(prepared, calibration, folds, stages)
    kv_scales = measured_kv_scales(calibration, folds, prepared.checkpoint.config)
    kv = _kv_stage(prepared, quantized.weights, kv_scales, stages)
    prepared = replace(prepared, measured_kv=kv.chosen)
    artifacts = {
        backend.name: _lower(prepared, quantized.weights, kv_scales, backend, stages)
        for backend in prepared.backends
    }
    goldens = stages.run(
        "golden",
        lambda folder, advance: record_golden(
            prepared, quantized.weights, kv_scales, artifacts, folder, advance
        ),
        stage_results.GOLDENS,
    )
    in_bundle = (*artifacts, "golden")
    parts = StagedParts(
        checkpoint_sha256=checkpoint_sha256,
        tensors=quantized.tensors,
        artifacts=artifacts,
        goldens=goldens,
        kv=kv,
        files=[file for name in in_bundle for file in stages.finished[name].files],
        notes=untouched_notes(prepared, artifacts, stages.folder / "golden", goldens),
    )
    refuse_appeared(prepared.spec.out, prepared.spec.replace)
    bundle = stages.folder / BUNDLE_NAME
    readings = run_unkept(_TEXT, lambda: write_text(prepared, bundle), stages.notify)
    manifest = write_manifest(prepared, parts, readings, bundle)
    # Last, and within one disk: until here nothing that is finished can be lost.
    for name in in_bundle:
        stages.move_files(name, bundle)
    return manifest


def _kv_stage(
    prepared: Preparation, weights: WeightStore, kv_scales: KvScales | None, stages: Stages
) -> KvMeasurements:
    """Measure what keys and values may be kept in, where the user leaves that to the build."""
    if KV_STAGE not in stages.names:
        return KvMeasurements({})
    return stages.run(
        KV_STAGE,
        lambda folder, advance: measure_kv(prepared, weights, kv_scales, advance),
        stage_results.KV,
    )


def _lower(
    prepared: Preparation,
    weights: WeightStore,
    kv_scales: KvScales | None,
    backend: Backend,
    stages: Stages,
) -> Artifact:
    text = prepared.text

    def work(folder: Path, advance: Advance) -> Artifact:
        source = LoweringInput(
            config=prepared.checkpoint.config,
            weights=weights,
            caches=prepared.caches_of(backend),
            stop_ids=text.stop_ids,
            bos_id=text.bos_id,
            pad_id=text.pad_id,
            tokenizer_size=text.tokenizer_size,
            options=prepared.options_of(backend),
            kv_scales=kv_scales,
            sampling=text.sampling,
            lowered=_lowered_cache(prepared, stages),
            advance=lambda done, total, what: advance(backend.name, done, total, what),
        )
        return backend.lower(source, folder)

    return stages.run(backend.name, work, stage_results.ARTIFACT)


def _lowered_cache(prepared: Preparation, stages: Stages) -> LoweredCache:
    if not prepared.spec.use_cache:
        return NO_CACHE
    return user_lowered_cache(lambda text: stages.notify(Notice(text)))
