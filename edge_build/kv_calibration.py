"""Constant scales of int8 keys and values, from what the eager model computes on a text.

Only for backends whose kernels want them before a token is seen. docs/numerics.md gives the reason
for the bound of rotated keys and for the headroom.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_build.golden_texts import LONG_TEXT, TOKENIZER_TEXTS
from edge_build.kv_scales import LARGEST_CODE, KvScales
from edge_build.preparation import Preparation
from edge_build.progress import Advance
from edge_build.prompts import open_tokenizer
from edge_build.quantization.weight import WeightStore
from edge_build.reference import ReferenceModel, reference_threads

CALIBRATION_TOKENS = 512
# The scales cover values this much larger than the largest one seen; larger ones saturate.
HEADROOM = 1.5
# For a channel that is always zero.
_SMALLEST_BOUND = 1e-6


def calibrate_kv(prepared: Preparation, weights: WeightStore, advance: Advance) -> KvScales | None:
    """Run the calibration text; None if no backend of the build wants constant scales."""
    plans = [prepared.caches_of(backend) for backend in prepared.backends]
    if not any(cache.quantization == "per_channel" for plan in plans for cache in plan.layers):
        return None
    advance("calibrating", 0, 1, "keys and values")
    tokens = _calibration_ids(prepared)
    with reference_threads(prepared.parameters):
        model = ReferenceModel(prepared.checkpoint.config, weights, "none")
        model.run(tokens, rows=1)
    advance("calibrating", 1, 1, f"{len(tokens)} tokens")
    return scales_of(model.past)


def scales_of(past: list[tuple[Tensor, Tensor]]) -> KvScales:
    """Return the scales that hold every key, at whatever position, and every value.

    Args:
        past: keys and values of each layer, [1, S, K, D].
    """
    keys = [_bound(_pair_lengths(key)) for key, _ in past]
    values = [_bound(value.abs()) for _, value in past]
    return KvScales(_scales(keys), _scales(values))


def _pair_lengths(key: Tensor) -> Tensor:
    """Return for each channel the largest value that rotation can give it, [1, S, K, D].

    Channels i and i + D / 2 turn against each other, so neither leaves the length of the pair.
    """
    first, second = key.chunk(2, dim=-1)
    return torch.hypot(first, second).repeat(1, 1, 1, 2)


def _bound(sizes: Tensor) -> Tensor:
    return sizes.amax(dim=(0, 1))  # [K, D]


def _scales(bounds: list[Tensor]) -> NDArray[np.float32]:
    largest = torch.stack(bounds).clamp(min=_SMALLEST_BOUND)
    scales: NDArray[np.float32] = (largest * (HEADROOM / LARGEST_CODE)).numpy()
    return scales


def _calibration_ids(prepared: Preparation) -> list[int]:
    """Return a chat, if the model has any, then prose, code and other scripts."""
    tokenizer = open_tokenizer(prepared.text)
    text = "\n".join((LONG_TEXT, *TOKENIZER_TEXTS))
    chats = prepared.text.chats
    if chats:
        ids = [*chats[0].ids, *tokenizer.encode(text)]
    else:
        ids = tokenizer.encode_prompt(text)
    return ids[: min(CALIBRATION_TOKENS, prepared.caches.context_length)]
