"""An evaluation as one HTML page that needs nothing else: figures, a chart, and the text itself.

Each measured token is shaded by what it cost: divergence from the reference where there is one,
else its own nats. What texts say is escaped by the template, and the page forbids itself scripts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketlm.evaluation.evaluation import Evaluation
from pocketlm.evaluation.passages import Passage
from pocketlm.evaluation.result import EvalResult, pieces
from pocketlm.evaluation.wording import figure_rows
from pocketlm.runtime_py.terminal import printable
from pocketlm.runtime_py.tokenizer import Tokenizer

_FOLDER = Path(__file__).parent
# From here on a token has the next shade, in nats of divergence, or of a token's own cost.
_SHADES_KL = (0.01, 0.1, 0.5, 1.0)
_SHADES_NATS = (1.0, 3.0, 6.0, 10.0)
_BARS = 160
_WORST = 25
# A token of the page takes 80 bytes.
_MOST_TOKENS = 50_000
_CONTEXT = 6


@dataclass(frozen=True)
class ShownToken:
    """A token of the text: its shade, and what it says when a pointer rests on it."""

    text: str
    shade: int
    title: str


@dataclass(frozen=True)
class ShownBar:
    """The mean of neighbouring tokens; places and sizes in per cent."""

    left: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class WorstToken:
    """A token that cost much, with the text before it."""

    place: int
    before: str
    text: str
    nats: str


def render_html(result: EvalResult, evaluation: Evaluation, tokenizer: Tokenizer) -> str:
    """Return the page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    cost, shades = evaluation.measures.nats, _SHADES_NATS
    if result.against is not None:
        cost, shades = evaluation.measures.kl_nats, _SHADES_KL
    texts = _texts(evaluation.passages, tokenizer)
    passages = list(_shown(texts, cost, shades))
    return environment.get_template("page.html.jinja").render(
        result=result,
        figures=figure_rows(result),
        what="KL divergence" if result.against else "cost",
        shades=shades,
        bars=_bars(cost),
        highest=_nats(max(_means(cost, _bars_of(cost)))),
        worst=list(_worst(cost, texts)),
        passages=passages,
        left_out=len(cost) - sum(map(len, passages)),
    )


def _nats(value: float) -> str:
    return f"{value:.3g}"


def _bars_of(cost: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return where each bar begins, and the end."""
    return np.unique(np.linspace(0, len(cost), min(_BARS, len(cost)) + 1).astype(np.int64))


def _means(cost: NDArray[np.float64], edges: NDArray[np.int64]) -> list[float]:
    return [float(cost[a:b].mean()) for a, b in pairwise(edges)]


def _bars(cost: NDArray[np.float64]) -> list[ShownBar]:
    edges = _bars_of(cost)
    means = _means(cost, edges)
    highest = max([*means, 1e-12])
    width = 100 / len(means)
    return [
        ShownBar(
            round(number * width, 3),
            round(width, 3),
            round(100 * mean / highest, 2),
            f"tokens {edges[number] + 1} to {edges[number + 1]}: {_nats(mean)} nats",
        )
        for number, mean in enumerate(means)
    ]


def _texts(passages: Sequence[Passage], tokenizer: Tokenizer) -> list[list[str]]:
    """Return what is shown for each measured token: its text, or a control token's name."""
    special = set(tokenizer.added_tokens(special=True))
    found = pieces(tokenizer, passages)
    for passage, texts in zip(passages, found, strict=True):
        for number, token in enumerate(passage.targets):
            if tokenizer.token(token) in special:
                texts[number] += tokenizer.token(token)
    return found


def _worst(cost: NDArray[np.float64], passages: Sequence[Sequence[str]]) -> Iterator[WorstToken]:
    places = [(text, number) for text in passages for number in range(len(text))]
    for place in np.argsort(-cost, kind="stable")[:_WORST].tolist():
        text, number = places[place]
        before = "".join(text[max(0, number - _CONTEXT) : number])
        yield WorstToken(place + 1, printable(before), printable(text[number]), _nats(cost[place]))


def _shown(
    passages: Sequence[Sequence[str]], cost: NDArray[np.float64], shades: Sequence[float]
) -> Iterator[list[ShownToken]]:
    done = 0
    for text in passages:
        if done >= _MOST_TOKENS:
            return
        values = cost[done : done + len(text)]
        levels = np.searchsorted(shades, values, side="right")
        yield [
            ShownToken(printable(piece), int(level), f"token {number}: {_nats(value)} nats")
            for number, (piece, level, value) in enumerate(
                zip(text, levels, values.tolist(), strict=True), done + 1
            )
        ]
        done += len(text)
