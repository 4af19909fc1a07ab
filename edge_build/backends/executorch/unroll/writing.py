"""Writes a model's file without lowering every layer."""

from pathlib import Path

from pocketlm.edge_build.backend import LoweringInput
from pocketlm.edge_build.backends.executorch import lowering
from pocketlm.edge_build.backends.executorch.unroll.executorch_caches import clear_executorch_caches
from pocketlm.edge_build.backends.executorch.unroll.fused_passes import fused_passes
from pocketlm.edge_build.backends.executorch.unroll.lowered_template import (
    LoweredTemplate,
    template_key,
    without_weights,
)
from pocketlm.edge_build.backends.executorch.unroll.template import Template, make_template
from pocketlm.edge_build.backends.executorch.unroll.unrolling import unroll
from pocketlm.runtime_py.engines.executorch.program_file import write_program


def write_unrolled(source: LoweringInput, path: Path) -> None:
    """Lower the model's template, or take it from the cache, and repeat its layers."""
    template = make_template(source)
    kept = source.lowered.get(template_key(template), lambda: _lowered_template(template))
    source.advance(2, lowering.STEPS, "repeating layers")
    program, segments = unroll(LoweredTemplate.from_bytes(kept), template.stands_for, source)
    source.advance(3, lowering.STEPS, "writing the file")
    with path.open("wb") as file:
        write_program(program, segments, file)


def _lowered_template(template: Template) -> bytes:
    with fused_passes():
        lowered, edge = lowering.lowered_program(template.source, template.methods)
    named_data = edge._named_data_store.get_named_data_store_output()
    kept = without_weights(lowered.executorch_program, named_data, template).to_bytes()
    clear_executorch_caches(edge.exported_program())
    return kept
