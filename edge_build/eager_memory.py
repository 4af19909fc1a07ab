"""What a tokenizer and an eager model hold while they are at work, term by term.

The constants are fitted, as those of memory_prediction.py are.
"""

import math
from dataclasses import dataclass

from pocketlm.edge_build.preparation import Preparation
from pocketlm.edge_build.reference import LARGE_PARAMETERS

MB = 1_000_000

# A vocabulary entry of a loaded tokenizer: Gemma's 262,144 take 249 MB.
_TOKENIZER_ENTRY_BYTES = 950
# Code and scratch of matrix products when they first run.
_KERNEL_BYTES = 25 * MB
# Copies of a weight's block while it is unpacked and multiplied: 4 million float32 each.
_EAGER_BLOCK_BYTES = 2 * 16 * MB
# Tensors of the MLP's width that live at once: gate, up, their product and what of it is rounded.
EAGER_WIDE_TENSORS = 4
# Tensors of the residual's width: itself, before the layer, normed, queries, keys, values.
_EAGER_NARROW_TENSORS = 6
# Tensors of scores that live at once: products, scaled, masked, weights.
_EAGER_SCORES = 4
# A large model's activations come from a heap that keeps what they leave between them.
_HEAP_FACTOR = 1.3
# So do many sequences: 863 MB were measured where this predicts 875 (pico, 33 sequences).
_PIECES_FACTOR = 1.5
# What edge_build/reference.py keeps unpacked.
_KEPT_ELEMENTS = 1 << 20


@dataclass(frozen=True)
class MemoryTerm:
    """One part of what a stage holds."""

    what: str
    size_bytes: int


def tokenizer_term(prepared: Preparation, holes: int) -> MemoryTerm:
    """Return what the tokenizer takes.

    Args:
        holes: bytes that earlier stages left, in which its small pieces find room.
    """
    size = _TOKENIZER_ENTRY_BYTES * prepared.text.tokenizer_size
    return MemoryTerm("tokenizer", max(0, size - holes))


def kept_weight_bytes(prepared: Preparation) -> int:
    """Return the bytes of the small weights that an eager model keeps unpacked."""
    return 4 * sum(size for size in _matrices(prepared) if size <= _KEPT_ELEMENTS)


def eager_terms(
    prepared: Preparation,
    longest: int,
    tokens: int,
    *,
    in_pieces: bool = False,
    wide_tensors: float = EAGER_WIDE_TENSORS,
) -> list[MemoryTerm]:
    """Return what an eager model holds while it reads.

    Args:
        longest: tokens of the longest sequence, whose scores live at once.
        tokens: of everything that passes a layer at once.
        in_pieces: whether they are many sequences, whose pieces leave holes in the heap.
        wide_tensors: of an MLP that live at once.
    """
    config = prepared.checkpoint.config
    blocks = _EAGER_BLOCK_BYTES if max(_matrices(prepared)) > _KEPT_ELEMENTS else 0
    intermediate = max(layer.intermediate_size for layer in config.layers)
    wide = tokens * (intermediate * wide_tensors)
    narrow = tokens * (config.hidden_size * _EAGER_NARROW_TENSORS)
    heap = _HEAP_FACTOR if prepared.parameters > LARGE_PARAMETERS else 1
    heap = _PIECES_FACTOR if in_pieces else heap
    heads = max(layer.num_attention_heads for layer in config.layers)
    scores = heads * longest**2 * _EAGER_SCORES
    return [
        MemoryTerm("kernels of torch", _KERNEL_BYTES),
        MemoryTerm("small weights, unpacked", kept_weight_bytes(prepared)),
        MemoryTerm("blocks of large weights", blocks),
        MemoryTerm("activations of all that is read at once", int((wide + narrow) * 4 * heap)),
        MemoryTerm("scores of the longest text", int(scores * 4 * heap)),
    ]


def _matrices(prepared: Preparation) -> list[int]:
    """Return the number of elements of each matrix."""
    shapes = map(prepared.checkpoint.shape, prepared.rules)
    return [math.prod(shape) for shape in shapes if len(shape) == 2]
