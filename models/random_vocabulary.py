"""A made-up BPE vocabulary of any size, for checkpoints with random weights.

Every byte has a token, so any text survives encoding and decoding; letters are merged to pairs
and pairs to groups of four until the vocabulary is full.
"""

import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from pocketlm.models.errors import ModelError

# Frequent letters first, so that a small vocabulary still shortens English text.
_LETTERS = "etaoinshrdlcumwfgypbvkjxqz"

Merge = tuple[str, str]


@dataclass(frozen=True)
class Vocabulary:
    """Tokens with their ids, and the merges in order of preference."""

    ids: Mapping[str, int]
    merges: tuple[Merge, ...]


def make_vocabulary(
    size: int, fixed: Mapping[str, int], alphabet: tuple[str, ...], space: str
) -> Vocabulary:
    """Fill the ids 0..size-1: the fixed tokens at theirs, then alphabet and merges at the rest.

    Args:
        fixed: tokens whose ids are given.
        alphabet: tokens that must be there; merges start from them.
        space: how the tokenizer spells the space before a word.

    Raises:
        ModelError: `size` is too small for the fixed tokens and the alphabet.
    """
    needed = len(fixed.keys() | set(alphabet))
    if size < max(needed, max(fixed.values()) + 1):
        raise ModelError(
            f"vocab_size={size}: a tokenizer with a token for every byte needs at least {needed}"
        )
    taken = set(fixed.values())
    free = (number for number in range(size) if number not in taken)
    ids = dict(fixed)
    for token in alphabet:
        if token not in ids:
            ids[token] = next(free)
    # "\n\n" has an id of its own in Gemma's vocabularies.
    merges = [("\n", "\n")] if "\n\n" in ids else []
    for number, (first, second) in zip(free, _merges(space), strict=False):
        ids[first + second] = number
        merges.append((first, second))
    return Vocabulary(ids, tuple(merges))


def sentencepiece_alphabet(space: str) -> tuple[str, ...]:
    """Return the tokens that a byte-fallback tokenizer starts from."""
    printable = string.digits + string.ascii_letters + string.punctuation + "\n"
    return (*(f"<0x{byte:02X}>" for byte in range(256)), space, *printable)


def byte_level_alphabet() -> tuple[str, ...]:
    """Return the 256 characters that stand for bytes in byte-level BPE, in the usual order.

    Source: bytes_to_unicode in https://github.com/openai/gpt-2/blob/master/src/encoder.py
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    stand_ins = range(0x100, 0x100 + 256 - len(visible))
    return tuple(chr(code) for code in (*sorted(visible), *stand_ins))


def _merges(space: str) -> Iterator[Merge]:
    pairs = list(product((space, *_LETTERS), _LETTERS))
    yield from pairs
    inner = [first + second for first, second in product(_LETTERS, repeat=2)]
    yield from product((first + second for first, second in pairs), inner)
