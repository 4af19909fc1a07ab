"""evaluate(): each passage through the subject, and beside it through what it is compared with."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pocketlm.evaluation.kept_passages import KeptPassages
from pocketlm.evaluation.logit_rows import LogitRows, in_step
from pocketlm.evaluation.measures import TokenMeasures, join, measure
from pocketlm.evaluation.passages import Passage
from pocketlm.evaluation.subject import Subject
from pocketlm.runtime_py.errors import RunError

# (tokens done, tokens in all, what is at work)
Advance = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Evaluation:
    """Every measured token of every passage.

    Attributes:
        measures: of all passages, one after the other.
        reused_tokens: measured by an earlier run.
    """

    passages: tuple[Passage, ...]
    measures: TokenMeasures
    reused_tokens: int


def evaluate(
    subject: Subject,
    against: Subject | None,
    passages: Sequence[Passage],
    kept: KeptPassages,
    advance: Advance,
) -> Evaluation:
    """Measure passages, but for those that are kept; each is kept when it is done.

    Raises:
        RunError: the two have other vocabularies.
        BuildError: a weight of a checkpoint is not finite.
    """
    if against is not None and against.vocab_size != subject.vocab_size:
        raise RunError(
            f"--against {against.name}: {against.vocab_size} rows of logits, but {subject.name} "
            f"has {subject.vocab_size}; give the checkpoint that it was built from, or one with "
            "the same tokenizer"
        )
    total = sum(len(passage.places) for passage in passages)
    found = [kept.read(n, len(passage.places)) for n, passage in enumerate(passages)]
    reused = done = sum(columns.shape[1] for columns in found if columns is not None)
    advance(done, total, "")

    def report_layers(layer: int, layers: int) -> None:
        advance(done, total, f"layer {layer} of {layers}")

    with ExitStack() as stack:
        if done < total:
            ours = stack.enter_context(subject.load(report_layers))
            theirs = stack.enter_context(against.load(report_layers)) if against else None
        for number, passage in enumerate(passages):
            if found[number] is not None:
                continue
            parts = []
            for part in _measured(ours, theirs, passage):
                parts.append(part)
                done += part.shape[1]
                advance(done, total, "tokens")
            found[number] = measured = np.concatenate(parts, axis=1)
            kept.write(number, measured)
    columns = [each for each in found if each is not None]
    return Evaluation(tuple(passages), join(columns), reused)


def _measured(
    ours: LogitRows, theirs: LogitRows | None, passage: Passage
) -> Iterator[NDArray[np.float64]]:
    """Yield the measures of some tokens after the other."""
    targets, done = torch.tensor(passage.targets), 0
    subject = ours.rows(passage)
    pairs = (
        ((rows, None) for rows in subject)
        if theirs is None
        else in_step(subject, theirs.rows(passage))
    )
    for rows, reference in pairs:
        yield measure(rows, targets[done : done + len(rows)], reference).columns
        done += len(rows)
