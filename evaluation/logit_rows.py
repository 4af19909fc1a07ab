"""Who gives logits for the tokens of a passage: an artifact with its caches, or the float model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pocketlm.edge_build.calibration.float_weights import FloatWeights
from pocketlm.edge_build.quantization.activations import attention_rounding
from pocketlm.edge_build.reference import eager_decoder
from pocketlm.edge_build.reference_attention import KeepEverything, Packed
from pocketlm.evaluation.passages import Passage
from pocketlm.models.checkpoint import Checkpoint
from pocketlm.runtime_py.session import Session

# Rows of logits at once: each is a megabyte where the vocabulary is a quarter of a million, and a
# block of the head's weights is read from disk for all of them together.
_ROWS = 128
# Of an artifact's rows, which come one by one: measuring many together takes a tenth of the time.
_BLOCK_ELEMENTS = 1 << 22

# (done, total) of layers.
ReportLayers = Callable[[int, int], None]


class LogitRows(Protocol):
    """Logits before each measured token of a passage."""

    def rows(self, passage: Passage) -> Iterator[Tensor]:
        """Yield blocks [n, V] float32, in order, a row for each of `passage.places`."""
        ...


@dataclass(frozen=True)
class ArtifactRows:
    """A bundle's artifact, fed from empty caches a token at a time: it gives its last row alone."""

    session: Session

    def rows(self, passage: Passage) -> Iterator[Tensor]:
        """Yield blocks of rows, of 16 MB at most."""
        self.session.reset()
        size, done = self.session.vocab_size, 0
        at_once = min(_ROWS, max(1, _BLOCK_ELEMENTS // size))
        for start in range(0, len(passage.places), at_once):
            places = passage.places[start : start + at_once]
            block = np.empty((len(places), size), np.float32)
            for row, place in zip(block, places, strict=True):
                row[:] = self.session.prefill(passage.ids[done:place])[:size]
                done = place
            yield torch.from_numpy(block)


class CheckpointRows:
    """The float model, layer by layer: weights stream from the checkpoint's files.

    Args:
        report: called with the layers that are done.
        remembered: hidden states of passages that were computed, for who asks for them again; None
            keeps none.

    Raises:
        BuildError: from `rows`; a weight is not finite.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        report: ReportLayers,
        remembered: dict[Passage, Tensor] | None = None,
    ) -> None:
        self.config, self.report, self.remembered = checkpoint.config, report, remembered
        self.decoder = eager_decoder(self.config, FloatWeights(checkpoint), lambda name: (None,))

    def rows(self, passage: Passage) -> Iterator[Tensor]:
        """Yield blocks of rows; hidden states of the passage are all computed first."""
        remembered = self.remembered
        hidden = None if remembered is None else remembered.get(passage)
        if hidden is None:
            hidden = self._hidden(passage)
            if remembered is not None:
                remembered[passage] = hidden
        before = torch.tensor(passage.places) - 1
        for places in before.split(_ROWS):
            with torch.no_grad():
                yield self.decoder.logits(hidden[:, places])[0]

    @torch.no_grad()
    def _hidden(self, passage: Passage) -> Tensor:
        layers, count = self.config.num_layers, len(passage.ids)
        positions, unrounded = torch.arange(count), attention_rounding("none", None)
        step = KeepEverything(self.config, None, positions, (unrounded,))
        packed = Packed([step], [count], lambda done: self.report(done, layers))
        hidden: Tensor = self.decoder.hidden(torch.tensor([passage.ids]), packed)
        self.report(layers, layers)
        return hidden


def in_step(subject: Iterator[Tensor], reference: Iterator[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Yield equally long blocks of rows of both."""
    ours = theirs = torch.empty(0, 0)
    while True:
        ours = ours if len(ours) else next(subject, ours)
        theirs = theirs if len(theirs) else next(reference, theirs)
        count = min(len(ours), len(theirs))
        if count == 0:
            return
        yield ours[:count], theirs[:count]
        ours, theirs = ours[count:], theirs[count:]
