"""The figures of an evaluation, as people compare them and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pocketlm.evaluation.evaluation import Evaluation
from pocketlm.evaluation.measures import TokenMeasures
from pocketlm.evaluation.passages import Passage
from pocketlm.evaluation.subject import Subject
from pocketlm.runtime_py.tokenizer import Tokenizer


@dataclass(frozen=True)
class KlNats:
    """Kullback-Leibler divergence from the reference, in nats a token."""

    mean: float
    median: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True)
class EvalResult:
    """What was measured. The last three are None without a reference.

    Attributes:
        subject: folder, and backend where there is one.
        against: the checkpoint that it is compared with.
        tokens: that were predicted and measured.
        perplexity: exp(nats_per_token).
        bits_per_byte: of the text of these tokens in UTF-8; tokenizers do not matter to it. None
            where they have no text.
        bits_per_weight: with scales.
        artifact_bytes: of the files that hold the weights.
        top1_agreement: share of tokens before which both find the same one likeliest.
        top5_agreement: share of the reference's five likeliest that are among the subject's five.
    """

    subject: str
    against: str | None
    tokens: int
    passages: int
    perplexity: float
    nats_per_token: float
    bits_per_byte: float | None
    bits_per_weight: float
    artifact_bytes: int
    kl_nats: KlNats | None = None
    top1_agreement: float | None = None
    top5_agreement: float | None = None

    def to_document(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def result_of(subject: Subject, against: Subject | None, evaluation: Evaluation) -> EvalResult:
    """Return the figures of an evaluation."""
    measures = evaluation.measures
    nats = float(measures.nats.mean())
    texts = pieces(subject.tokenizer, evaluation.passages)
    text_bytes = sum(len(piece.encode()) for passage in texts for piece in passage)
    total_bits = float(measures.nats.sum()) / np.log(2)
    return EvalResult(
        subject=subject.name,
        against=against.name if against else None,
        tokens=len(measures.nats),
        passages=len(evaluation.passages),
        perplexity=float(np.exp(nats)),
        nats_per_token=nats,
        bits_per_byte=float(total_bits / text_bytes) if text_bytes else None,
        bits_per_weight=subject.bits_per_weight,
        artifact_bytes=subject.size_bytes,
        kl_nats=_kl_nats(measures) if against else None,
        top1_agreement=float(measures.top1.mean()) if against else None,
        top5_agreement=float(measures.top5.mean()) if against else None,
    )


def _kl_nats(measures: TokenMeasures) -> KlNats:
    quantiles = (float(np.quantile(measures.kl_nats, q)) for q in (0.5, 0.9, 0.99, 1))
    return KlNats(float(measures.kl_nats.mean()), *quantiles)


def pieces(tokenizer: Tokenizer, passages: Sequence[Passage]) -> list[list[str]]:
    """Return the text of each measured token of each passage; a control token has none.

    A character that several tokens make is the last one's, also where a passage ends within it.
    """
    found: list[list[str]] = []
    stream = tokenizer.stream()
    for passage in passages:
        if found and not passage.goes_on:
            found[-1][-1] += stream.flush()
        texts: list[str] = []
        before = 0
        if passage.places[0] == 1 and passage.ids[0] != tokenizer.bos_id:
            # Not measured, but a part of the text, and of a character perhaps.
            stream.push(passage.ids[0])
        for place in passage.places:
            if place != before + 1 and texts:
                texts[-1] += stream.flush()
            texts.append(stream.push(passage.ids[place]))
            before = place
        found.append(texts)
    found[-1][-1] += stream.flush()
    return found
