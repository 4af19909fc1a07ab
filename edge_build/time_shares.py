"""What share of a build each stage takes, so that one bar can show all of it. Rough by nature.

Seconds on two cores of a server; only their ratios count, and every build corrects them by its own
pace. From the wall_s that benchmarks/build_memory.py writes, shapes of 7 M to 1 B weights.
"""

from edge_build.preparation import Preparation
from edge_build.reference import LARGE_PARAMETERS

# Not kept for a later run: reading the weights once, for their digest.
CHECKPOINT = "checkpoint"
# Nor this: runner files, and what the installed runtimes make of them.
TEXT = "text"

_DIGEST_S_PER_BYTE = 1 / 1.3e9
_QUANTIZE_S_PER_WEIGHT = 22e-9
_LOWER_S = {"executorch": (20.0, 0.3, 20e-9), "onnx": (4.0, 0.15, 8e-9)}
# A backend that nobody measured.
_LOWER_OTHER_S = (10.0, 1.0, 10e-9)
_TEXT_S, _TEXT_S_PER_ENTRY = 2.0, 25e-6
_GOLDEN_STEP_S = 0.01
_GOLDEN_STEP_S_PER_WEIGHT = 1.5e-9


def expected_s(prepared: Preparation) -> dict[str, float]:
    """Return the seconds of each stage, in order."""
    weights, layers = prepared.parameters, prepared.checkpoint.config.num_layers
    large = weights > LARGE_PARAMETERS
    tokens = prepared.spec.golden_tokens or (8 if large else 64)
    steps = tokens * (2 if large else 4) * len(prepared.backends)
    step_s = _GOLDEN_STEP_S + _GOLDEN_STEP_S_PER_WEIGHT * weights
    stages = {
        CHECKPOINT: _DIGEST_S_PER_BYTE * prepared.checkpoint.size_bytes,
        "quantize": _QUANTIZE_S_PER_WEIGHT * weights,
        "calibrate": 3 * step_s,
        "golden": steps * step_s,
        TEXT: _TEXT_S + _TEXT_S_PER_ENTRY * prepared.text.tokenizer_size,
    }
    for backend in prepared.backends:
        once, by_layer, by_weight = _LOWER_S.get(backend.name, _LOWER_OTHER_S)
        stages[backend.name] = once + by_layer * layers + by_weight * weights
    return {name: stages[name] for name in (CHECKPOINT, *prepared.stage_names, TEXT)}
