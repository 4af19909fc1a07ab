"""build(spec): checkpoint → quantize → trace and lower → golden answers → bundle."""

from edge_build.backend import Artifact, Backend, LoweringInput
from edge_build.bundling import write_manifest
from edge_build.golden import record_golden
from edge_build.preparation import Preparation, prepare
from edge_build.progress import Advance, silent
from edge_build.quantization.apply import quantize_weights
from edge_build.quantization.weight import WeightStore
from edge_build.spec import BuildSpec
from edge_build.staging import staging
from runtime_py.manifest import Manifest


def build(spec: BuildSpec, advance: Advance = silent) -> Manifest:
    """Build a device bundle at `spec.out`, whole or not at all.

    Raises:
        ModelError, BuildError: the checkpoint, the options or the disk do not allow it.
    """
    prepared = prepare(spec)
    with staging(spec.out, prepared.disk_bytes) as stage:
        quantized = quantize_weights(prepared.checkpoint, prepared.rules, stage.weights, advance)
        prepared.text.copy_to(stage.bundle)
        artifacts: dict[str, Artifact] = {}
        for backend in prepared.backends:
            source = _lowering_input(prepared, quantized.weights, backend, advance)
            artifacts[backend.name] = backend.lower(source, stage.bundle)
        goldens = record_golden(prepared, quantized.weights, artifacts, stage.bundle, advance)
        return write_manifest(prepared, quantized.tensors, artifacts, goldens, stage.bundle)


def _lowering_input(
    prepared: Preparation, weights: WeightStore, backend: Backend, advance: Advance
) -> LoweringInput:
    text = prepared.text
    defaults = {option: choices[0] for option, choices in backend.options.items()}
    return LoweringInput(
        config=prepared.checkpoint.config,
        weights=weights,
        caches=prepared.caches,
        stop_ids=text.stop_ids,
        bos_id=text.bos_id,
        pad_id=text.pad_id,
        tokenizer_size=text.tokenizer_size,
        options={**defaults, **prepared.spec.backend_options.get(backend.name, {})},
        advance=lambda done, total, what: advance(backend.name, done, total, what),
    )
