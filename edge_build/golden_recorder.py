"""Runs the eager model on what golden answers are recorded on, in every way to round at once.

Every sequence is read with rounding and without, so each row stands beside what it would
be without rounding: their difference is what an artifact may differ by (docs/numerics.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

import numpy as np

from pocketlm.edge_build.golden_plan import GoldenPlan, GoldenText
from pocketlm.edge_build.golden_rows import FedTokens, KeptRows, Passes, Rows
from pocketlm.edge_build.kv_scales import KvScales
from pocketlm.edge_build.preparation import Preparation
from pocketlm.edge_build.progress import Advance
from pocketlm.edge_build.quantization.activations import Rounding
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.edge_build.reference import ReferenceModel
from pocketlm.runtime_py.golden_cases import GoldenCase, PlacedCall, PlacedCase

# Two float32 runtimes differ by the order of their sums, 1e-6 of a row's spread; two runs that
# also round activations or caches differ by up to the sum of what each rounds away
# (docs/numerics.md).
FLOAT_TOLERANCE = 1e-3
_ROUNDINGS = 2.0
NO_ROUNDING = Rounding()


@dataclass(frozen=True)
class Recorded:
    """The cases of one way to round, with their tolerances in standard deviations of a row."""

    tolerance: float
    exact_tolerance: float
    cases: tuple[GoldenCase, ...]
    placed: tuple[PlacedCase, ...]


class Recorder:
    """Records a plan in the eager model."""

    def __init__(
        self,
        prepared: Preparation,
        weights: WeightStore,
        kv_scales: KvScales | None,
        plan: GoldenPlan,
        advance: Advance,
    ) -> None:
        self.config, self.weights, self.plan = prepared.checkpoint.config, weights, plan
        self.kv_scales = kv_scales
        self.limit = prepared.text.tokenizer_size
        self.steps = self.done = 0
        self.chooser: ReferenceModel | None = None
        self.advance = advance

    def record_all(self, roundings: tuple[Rounding, ...]) -> dict[Rounding, Recorded]:
        """Return what is recorded for each way to round; all are fed the same tokens."""
        fed_back = sum(text.rows for text in self.plan.texts if not text.is_text)
        self.steps, self.done = 2 * self.config.num_layers + fed_back + self.plan.steps, 0
        sequences = [self._sequence(text) for text in self.plan.texts]
        self.chooser = None
        sequences += [_placed_sequence(name, calls) for name, calls in self.plan.placed]
        kept = {
            rounding: [
                KeptRows(fed, self.limit, rounds=rounding.activations != "none")
                for fed in sequences
            ]
            for rounding in roundings
        }
        # Rounding of attention alone is what an artifact without rounded activations has.
        ways = [(NO_ROUNDING, rounding.of_attention, rounding) for rounding in roundings]
        passes = Passes(
            self.config, self.weights, self.kv_scales, list(dict.fromkeys(sum(ways, ())))
        )
        for number, row in passes.rows(sequences, self._tell_layer):
            for rounding in roundings:
                rows = row[rounding], row[rounding.of_attention], row[NO_ROUNDING]
                kept[rounding][number].add(Rows(*rows))
            self._advance(f"rows of {sequences[number].name}", 1)
        return {rounding: self._recorded(kept[rounding]) for rounding in roundings}

    def _tell_layer(self, layer: int) -> None:
        layers = self.config.num_layers
        self._advance(f"layer {layer} of {layers}", 2 if layer else 0)

    def _sequence(self, text: GoldenText) -> FedTokens:
        """Return a text, or a prompt with what the model without rounding makes of it."""
        ids = text.ids
        if not text.is_text:
            chooser = self.chooser or ReferenceModel(self.config, self.weights, "none")
            self.chooser = chooser
            chooser.reset()
            row = chooser.run(ids, rows=1)[0]
            for _ in range(text.rows - 1):
                ids = (*ids, int(row[: self.limit].argmax()))
                row = chooser.run(ids[-1:])[0]
                self._advance(text.name, 1)
            self._advance(text.name, 1)
        first = len(ids) - text.rows
        return FedTokens(text.name, ids, range(len(ids)), range(first, len(ids)))

    def _recorded(self, kept: Sequence[KeptRows]) -> Recorded:
        tolerance = _tolerance(max(rows.rounding for rows in kept))
        texts = len(self.plan.texts)
        return Recorded(
            tolerance=tolerance,
            exact_tolerance=_tolerance(max(rows.attention_rounding for rows in kept)),
            cases=tuple(rows.case(tolerance) for rows in kept[:texts]),
            placed=tuple(
                PlacedCase(name, calls, tuple(rows.digests), tuple(rows.exact))
                for rows, (name, calls) in zip(kept[texts:], self.plan.placed, strict=True)
            ),
        )

    def _advance(self, what: str, steps: int) -> None:
        self.done += steps
        self.advance("golden", self.done, self.steps, what)


def _placed_sequence(name: str, calls: tuple[PlacedCall, ...]) -> FedTokens:
    ids = tuple(token for call in calls for token in call.ids)
    positions = [call.position + i for call in calls for i in range(len(call.ids))]
    ends = np.cumsum([len(call.ids) for call in calls]) - 1
    return FedTokens(name, ids, positions, ends.tolist())


def _tolerance(rounding: float) -> float:
    """Return the bound for two runs that round independently, two digits, never rounded down."""
    bound = Decimal(_ROUNDINGS * rounding)
    unit = Decimal(1).scaleb(bound.adjusted() - 1)
    return max(FLOAT_TOLERANCE, float(bound.quantize(unit, rounding=ROUND_CEILING)))
