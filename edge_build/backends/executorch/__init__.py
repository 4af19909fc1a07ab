"""The ExecuTorch backend: one .pte for stock LLM runners, on XNNPACK, with true ring caches.

The option `unroll` chooses what is lowered: "on" lowers a layer of each kind and repeats it, with
private APIs of the pinned releases; "off" lowers every layer with public ones, in far more time and
memory.
"""

from pathlib import Path

from pocketlm.edge_build.backend import Artifact, Backend, LoweringInput
from pocketlm.edge_build.backends.executorch.choices import (
    ACTIVATIONS,
    UNROLL,
    plan_artifact,
    rounded_attention,
)
from pocketlm.edge_build.lowering_memory import LoweringMemory
from pocketlm.edge_build.quantization.recipe import QuantScheme


def _lower(source: LoweringInput, bundle: Path) -> Artifact:
    # Torch is imported by a build that uses this backend, not by one that lists it.
    from pocketlm.edge_build.backends.executorch.lowering import lower

    return lower(source, bundle)


def _refuse(scheme: QuantScheme) -> str | None:
    if scheme.zero_points:
        return "weights with zero points: XNNPACK has symmetric weights only"
    if scheme.group_size is not None and scheme.scale_dtype == "float32":
        return "scales of groups in float32: XNNPACK keeps them in bfloat16"
    if scheme.group_size is None or scheme.bits == 4:
        return None
    return (
        f"{scheme.bits}-bit weights with group_size={scheme.group_size}: XNNPACK has groups for 4 "
        "bits only; leave group_size out, which is one scale per channel"
    )


BACKEND = Backend(
    name="executorch",
    lower=_lower,
    options={UNROLL: ("on", "off")},
    plan_artifact=plan_artifact,
    # custom_quantized_sdpa reads a scale and a zero point for each row.
    kv={"float32": "none", "int8": "per_token"},
    refuse=_refuse,
    tokenizer_repairs=("no_nfc", "no_padding", "spaces_as_merges"),
    tools=("executorch", "torchao"),
    # The head and a layer of each kind go through the exporter and its passes, which copy
    # codes; the other layers stream.
    activations=ACTIVATIONS,
    attention=rounded_attention,
    lowering_memory=LoweringMemory(
        library_bytes=140_000_000,
        layer_bytes=4_000_000,
        head_copies=4.4,
        template_copies=16,
        left=LoweringMemory(library_bytes=80_000_000, layer_bytes=0),
    ),
)
