"""The ExecuTorch backend: one .pte for stock LLM runners, on XNNPACK, with true ring caches."""

from pathlib import Path

from edge_build.backend import Artifact, Backend, LoweringInput


def _lower(source: LoweringInput, bundle: Path) -> Artifact:
    # Torch is imported by a build that uses this backend, not by one that lists it.
    from edge_build.backends.executorch.lowering import lower

    return lower(source, bundle)


BACKEND = Backend(
    name="executorch",
    lower=_lower,
    # custom_quantized_sdpa reads a scale and a zero point for each row.
    kv={"float32": "none", "int8": "per_token"},
    tokenizer_repairs=("no_nfc", "no_padding", "spaces_as_merges"),
)
