"""What parity tests share: splits of a sequence into calls, and errors in each row's std."""

import numpy as np
from numpy.typing import NDArray

from tests.artifacts import (
    CHUNK,
    CONTEXT,
    Lowered,
    derived_bound,
    ends,
    logits_after,
    random_tokens,
)

# Lengths of the calls that a whole context is fed in: past three wraps of every ring.
SPLITS = {
    "ones": [1] * CONTEXT,
    "chunks": [CHUNK] * (CONTEXT // CHUNK) + [CONTEXT % CHUNK],
    "uneven": [1, 2, CHUNK, 1, CHUNK, 3, 4, CHUNK, 1, 1, CHUNK, 2, CHUNK, 4, 3, CHUNK],
}
assert all(sum(splits) == CONTEXT for splits in SPLITS.values())

# Qwen3 has no local layers: both ways to keep them give the same file.
ONNX_KINDS = [
    ("gemma3_text", "windowed"),
    ("gemma3_text", "ring"),
    ("gemma2", "windowed"),
    ("gemma2", "ring"),
    ("qwen3", "windowed"),
]


def reference_errors(built: Lowered, splits: list[int]) -> tuple[NDArray[np.float32], float]:
    """Return the largest error of each call's row in its std, and the derived bound."""
    tokens = random_tokens(CONTEXT)
    expected, bound = derived_bound(built, tokens)
    rows = expected[ends(splits)]
    found = logits_after(built.load(), tokens, splits)
    return np.abs(found - rows).max(-1) / rows.std(-1), bound
