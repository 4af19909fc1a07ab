"""What share of a build each stage takes, so that one bar can show all of it. Rough by nature.

Seconds on two cores of a server; only their ratios count, and every build corrects them by its own
pace. From the wall_s that benchmarks/build_memory.py and golden_stage.py write, shapes of 7 M to
4 B weights.
"""

from pocketlm.edge_build.golden_plan import golden_tokens, is_large, multiply_adds, text_rows
from pocketlm.edge_build.preparation import Preparation

# Not kept for a later run: reading the weights once, for their digest.
CHECKPOINT = "checkpoint"
# Nor this: runner files, and what the installed runtimes make of them.
TEXT = "text"

_DIGEST_S_PER_BYTE = 1 / 1.3e9
_QUANTIZE_S_PER_WEIGHT = 22e-9
_TEXT_S, _TEXT_S_PER_ENTRY = 2.0, 25e-6
# A token alone, as calibration and the choices of a small model are made.
_STEP_S = 0.01
_STEP_S_PER_WEIGHT = 1.5e-9
_GOLDEN_S_PER_MULTIPLY_ADD = 1 / 90e9
_SMALL_TEXTS = 4
# Digests of a row, for each backend.
_GOLDEN_S_PER_LOGIT = 40e-9


def expected_s(prepared: Preparation) -> dict[str, float]:
    """Return the seconds of each stage, in order."""
    weights, layers = prepared.parameters, prepared.checkpoint.config.num_layers
    step_s = _STEP_S + _STEP_S_PER_WEIGHT * weights
    stages = {
        CHECKPOINT: _DIGEST_S_PER_BYTE * prepared.checkpoint.size_bytes,
        "quantize": _QUANTIZE_S_PER_WEIGHT * weights,
        "calibrate": 3 * step_s,
        "golden": _golden_s(prepared, step_s),
        TEXT: _TEXT_S + _TEXT_S_PER_ENTRY * prepared.text.tokenizer_size,
    }
    for backend in prepared.backends:
        cost = backend.cost
        stages[backend.name] = cost.once_s + cost.layer_s * layers + cost.weight_s * weights
    return {name: stages[name] for name in (CHECKPOINT, *prepared.stage_names, TEXT)}


def _golden_s(prepared: Preparation, step_s: float) -> float:
    fed_back = 0 if is_large(prepared) else _SMALL_TEXTS * golden_tokens(prepared)
    rows = fed_back or text_rows(prepared) + golden_tokens(prepared)
    logits = rows * prepared.checkpoint.config.vocab_size * len(prepared.backends)
    products_s = _GOLDEN_S_PER_MULTIPLY_ADD * multiply_adds(prepared)
    return fed_back * step_s + products_s + _GOLDEN_S_PER_LOGIT * logits
