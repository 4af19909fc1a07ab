"""ONNX Runtime: one graph of its fused operators and one file of weights.

The option `local-cache` chooses how layers with a window keep keys and values: "windowed" evicts
inside GroupQueryAttention and runs in the stock onnxruntime-genai; "ring" is a true ring.
"""

from pathlib import Path

from pocketlm.edge_build.backend import Artifact, Backend, LoweringInput
from pocketlm.edge_build.backends.onnx.choices import (
    ACTIVATIONS,
    LOCAL_CACHE,
    plan_artifact,
    rounded_attention,
)
from pocketlm.edge_build.backends.onnx.kinds import LOCAL_KINDS
from pocketlm.edge_build.lowering_memory import LoweringMemory


def lower(source: LoweringInput, bundle: Path) -> Artifact:
    """Write the artifact below `bundle / "onnx"`, and genai_config.json beside the tokenizer."""
    # torch and onnx load only when something is built.
    from pocketlm.edge_build.backends.onnx.lowering import lower_model

    return lower_model(source, bundle)


BACKEND = Backend(
    "onnx",
    lower,
    options={LOCAL_CACHE: LOCAL_KINDS},
    # GroupQueryAttention reads constant scales only.
    kv={"float32": "none", "int8": "per_channel"},
    # onnxruntime-genai allocates all caches in the type of the first.
    stock_runner_mixes_kv=False,
    plan_artifact=plan_artifact,
    tokenizer_repairs=("no_padding", "spaces_as_merges"),
    template_repairs=("explicit_trimming", "split_for_in"),
    tools=("onnx", "onnxscript"),
    # Weights stream from the store to the file.
    activations=ACTIVATIONS,
    attention=rounded_attention,
    lowering_memory=LoweringMemory(
        library_bytes=40_000_000,
        layer_bytes=2_600_000,
        mapped_tensors=1,
        left=LoweringMemory(library_bytes=20_000_000, layer_bytes=2_000_000),
    ),
)
