"""Text → the sequences of each step, and those that are held out."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pocketlm.edge_build.calibration.text import read_text_file
from pocketlm.edge_build.errors import BuildError
from pocketlm.runtime_py.tokenizer import Tokenizer

# Encoded at once: a tokenizer may take much longer for a text of many megabytes in one piece.
_PIECE_CHARACTERS = 1 << 18
# Of all sequences, one in so many is held out, but no more than that.
_HELD_OUT_SHARE, _MOST_HELD_OUT = 20, 16
# Sequences that are trained on for each that is measured: reading one costs a third of training.
_TRAINED_FOR_MEASURED = 4


@dataclass(frozen=True)
class TrainingText:
    """Equally long sequences of a text, each of which begins with BOS if there is one.

    Attributes:
        train: [n, length] int64.
        held_out: [m, length] int64, the end of the text.
        seed: of their order.
    """

    train: Tensor
    held_out: Tensor
    seed: int

    def batch(self, step: int, count: int) -> Tensor:
        """Return the sequences of a step, [count, length]: each once before any comes again."""
        places = torch.arange(step * count, (step + 1) * count)
        chosen = [self._shuffled(int(p) // len(self.train))[p % len(self.train)] for p in places]
        return self.train[torch.stack(chosen)]

    def measured(self, trained: int) -> Tensor:
        """Return the held-out sequences to measure after each `trained` sequences, [n, length]."""
        return self.held_out[: max(1, trained // _TRAINED_FOR_MEASURED)]

    def _shuffled(self, epoch: int) -> Tensor:
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return torch.randperm(len(self.train), generator=random)


def read_training_text(path: Path, tokenizer: Tokenizer, length: int, seed: int) -> TrainingText:
    """Cut a file into sequences.

    Raises:
        BuildError: it is missing, no text, or holds fewer than two sequences.
    """
    ids = encode_in_pieces(read_text_file(path), tokenizer)
    first = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    step = length - len(first)
    count = len(ids) // step
    if count < 2:
        raise BuildError(
            f"--text {path}: {len(ids):,} tokens; training needs two sequences of {length} at "
            "least, one of them to measure on: give a longer text or a smaller --sequence-length"
        )
    rows = torch.tensor(ids[: count * step]).reshape(count, step)
    sequences = torch.cat((torch.tensor(first, dtype=torch.long).expand(count, -1), rows), dim=1)
    held_out = min(_MOST_HELD_OUT, max(1, count // _HELD_OUT_SHARE))
    return TrainingText(sequences[:-held_out], sequences[-held_out:], seed)


def encode_in_pieces(text: str, tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of a text that is cut at ends of lines where it is long."""
    ids: list[int] = []
    start = 0
    while start < len(text):
        stop = start + _PIECE_CHARACTERS
        if stop < len(text):
            stop = text.rfind("\n", start, stop) + 1 or stop
        ids += tokenizer.encode(text[start:stop])
        start = stop
    return ids
