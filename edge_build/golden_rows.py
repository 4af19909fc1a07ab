"""Rows of logits of one sequence, rounded and not, and what golden answers keep of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from pocketlm.edge_build.kv_scales import KvScales
from pocketlm.edge_build.quantization.activations import Rounding
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.edge_build.reference import ReferenceModel
from pocketlm.models.config import ModelConfig
from pocketlm.runtime_py.golden_cases import GoldenCase
from pocketlm.runtime_py.logits_digest import LogitsDigest, greedy_margin, make_digest

# The first rows are digested in full, later ones at this stride and the others in brief.
_EVERY_DIGEST = 8
# With as few rows as placed tokens have, each in full.
_SHORT_ROWS = 48
# Rows of logits that exist at once: a row of a large vocabulary is a megabyte.
PIECE_ROWS = 64
# Ids that may be as good as the best within rounding; with more, the choice says nothing.
_MOST_TIED = 1024

Row = NDArray[np.float32]


@dataclass(frozen=True)
class FedTokens:
    """Tokens that one pass reads.

    Attributes:
        positions: of each token, ascending; caches hold zeros at all others.
        rows: indices of the tokens whose logits are wanted, ascending.
    """

    name: str
    ids: tuple[int, ...]
    positions: Sequence[int]
    rows: Sequence[int]


@dataclass(frozen=True)
class Rows:
    """One row three ways: as the artifact rounds, with its rounding of attention alone, exact."""

    rounded: Row
    attention: Row
    exact: Row


class Passes:
    """Sequences read in several ways to round at once.

    Args:
        ways: the first rounds nothing.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: WeightStore,
        kv_scales: KvScales | None,
        ways: Sequence[Rounding],
    ) -> None:
        first, *others = ways
        self.ways = tuple(ways)
        assert first == Rounding(), "the first way rounds nothing"
        self.model = ReferenceModel(config, weights, "none", "none", kv_scales, also=others)

    def rows(
        self, sequences: Sequence[FedTokens], advance: Callable[[int], None]
    ) -> Iterator[tuple[int, Mapping[Rounding, Row]]]:
        """Yield number of the sequence and the row in each way, for all wanted rows in order.

        Args:
            advance: called with each layer when all tokens have passed it.
        """
        hidden = self.model.hidden([(fed.ids, fed.positions) for fed in sequences], advance)
        wanted = torch.cat(
            [states[:, list(fed.rows)] for states, fed in zip(hidden, sequences, strict=True)],
            dim=1,
        )  # [ways, rows, E]
        numbers = [n for n, fed in enumerate(sequences) for _ in fed.rows]
        for start in range(0, len(numbers), PIECE_ROWS):
            piece = slice(start, start + PIECE_ROWS)
            logits = self.model.logits(wanted[:, piece]).numpy()
            for i, number in enumerate(numbers[piece]):
                yield number, dict(zip(self.ways, logits[:, i], strict=True))


class KeptRows:
    """What is kept of a sequence's rows, one after the other.

    Args:
        limit: ids that the tokenizer has; choices are among them.
        rounds: whether activations are rounded, so that rows without are worth a digest.
    """

    def __init__(self, fed: FedTokens, limit: int, *, rounds: bool) -> None:
        self.fed, self.limit, self.rounds = fed, limit, rounds
        self.digests: list[LogitsDigest] = []
        self.exact: list[LogitsDigest] = []
        self.choices: list[int] = []
        self.margins: list[float] = []
        self.near: list[tuple[NDArray[np.intp], Row]] = []
        # Largest changes by all rounding, and by that of attention, in standard deviations.
        self.rounding = self.attention_rounding = 0.0

    def add(self, rows: Rows) -> None:
        """Keep the next row."""
        step = len(self.choices)
        position = self.fed.positions[self.fed.rows[step]]
        is_last = step == len(self.fed.rows) - 1
        brief = step >= _EVERY_DIGEST and step % _EVERY_DIGEST != 0 and not is_last
        brief = brief and len(self.fed.rows) > _SHORT_ROWS
        digest = _digest(rows.rounded, rows.exact, position, brief=brief)
        exact = _digest(rows.attention, rows.exact, position)
        self.rounding = max(self.rounding, digest.rounding, _change(rows.rounded, rows.exact))
        changes = exact.rounding, _change(rows.attention, rows.exact)
        self.attention_rounding = max(self.attention_rounding, *changes)
        self.digests.append(digest)
        if self.rounds and not brief:
            self.exact.append(exact)
        self._choose(rows.rounded)

    def case(self, tolerance: float) -> GoldenCase:
        """Return the rows as a case whose rows were all kept, its last tokens fed one by one."""
        split = self.fed.rows[0] + 1
        return GoldenCase(
            name=self.fed.name,
            prompt_ids=self.fed.ids[:split],
            continuation_ids=tuple(self.choices),
            margins=tuple(self.margins),
            logits=tuple(self.digests),
            forced_ids=self.fed.ids[split:],
            tied_ids=tuple(_tied(ids, gaps, 2 * tolerance) for ids, gaps in self.near),
            exact=tuple(self.exact),
        )

    def _choose(self, row: Row) -> None:
        among = row[: self.limit]
        self.choices.append(int(among.argmax()))
        self.margins.append(greedy_margin(row, self.limit))
        count = min(_MOST_TIED + 1, len(among))
        ids = np.sort(np.argpartition(-among, count - 1)[:count])
        ids = ids[np.argsort(-among[ids], kind="stable")]
        self.near.append((ids, (among.max() - among[ids]) / row.std(dtype=np.float64)))


def _digest(row: Row, exact: Row, position: int, *, brief: bool = False) -> LogitsDigest:
    """Return a row's digest, with how far it is from the exact row in what the digest measures."""
    digest = make_digest(row, position, brief=brief)
    return replace(digest, rounding=digest.error(exact) if row is not exact else 0.0)


def _change(row: Row, exact: Row) -> float:
    """Return the largest change of a logit by rounding, in units of the row's std."""
    return float(np.abs(row - exact).max() / exact.std(dtype=np.float64))


def _tied(ids: NDArray[np.intp], gaps: Row, width: float) -> tuple[int, ...] | None:
    tied = ids[gaps <= width][1:]
    return None if len(tied) >= _MOST_TIED else tuple(int(i) for i in tied)
