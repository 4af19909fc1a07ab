"""Runs the eager model on what golden answers are recorded on, once per way to round.

Every sequence is read with rounding and without at once, so each row stands beside what it would
be without rounding: their difference is what an artifact may differ by (docs/numerics.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

import numpy as np

from edge_build.golden_plan import GoldenPlan, GoldenText
from edge_build.golden_rows import FedTokens, KeptRows, Passes
from edge_build.kv_scales import KvScales
from edge_build.preparation import Preparation
from edge_build.progress import Advance
from edge_build.quantization.weight import WeightStore
from edge_build.reference import ReferenceModel
from runtime_py.golden_cases import GoldenCase, PlacedCall, PlacedCase
from runtime_py.manifest import ActivationQuantization, AttentionQuantization

# Two float32 runtimes differ by the order of their sums, 1e-6 of a row's spread; two runs that
# also round activations or caches differ by up to the sum of what each rounds away
# (docs/numerics.md).
FLOAT_TOLERANCE = 1e-3
_ROUNDINGS = 2.0


@dataclass(frozen=True)
class Rounding:
    """What a runtime rounds; artifacts that round alike share their answers."""

    activations: ActivationQuantization
    attention: AttentionQuantization

    def __str__(self) -> str:
        return ", ".join(dict.fromkeys((self.activations, self.attention)))


NO_ROUNDING = Rounding("none", "none")


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
        self.advance = advance

    def record_all(self, roundings: tuple[Rounding, ...]) -> dict[Rounding, Recorded]:
        """Return what is recorded for each way to round; all are fed the same tokens."""
        fed_back = sum(text.rows for text in self.plan.texts if not text.is_text)
        self.steps, self.done = len(roundings) * self.plan.steps + fed_back, 0
        chooser = self._model(NO_ROUNDING)
        sequences = [self._sequence(chooser, text) for text in self.plan.texts]
        sequences += [_placed_sequence(name, calls) for name, calls in self.plan.placed]
        del chooser
        return {rounding: self._record(rounding, sequences) for rounding in roundings}

    def _model(self, rounding: Rounding) -> ReferenceModel:
        return ReferenceModel(
            self.config, self.weights, rounding.activations, rounding.attention, self.kv_scales
        )

    def _sequence(self, chooser: ReferenceModel, text: GoldenText) -> FedTokens:
        """Return a text, or a prompt with what the model without rounding makes of it."""
        ids = text.ids
        if not text.is_text:
            chooser.reset()
            row = chooser.run(ids, rows=1)[0]
            for _ in range(text.rows - 1):
                ids = (*ids, int(row[: self.limit].argmax()))
                row = chooser.run(ids[-1:])[0]
                self._advance(text.name, 1)
            self._advance(text.name, 1)
        first = len(ids) - text.rows
        return FedTokens(text.name, ids, range(len(ids)), range(first, len(ids)))

    def _record(self, rounding: Rounding, sequences: Sequence[FedTokens]) -> Recorded:
        attention = None
        if "none" not in (rounding.activations, rounding.attention):
            attention = self._model(Rounding("none", rounding.attention))
        passes = Passes(self._model(rounding), attention)
        kept = []
        for sequence in sequences:
            kept.append(KeptRows(sequence, self.limit, rounds=rounding.activations != "none"))
            for rows in passes.rows(sequence):
                kept[-1].add(rows)
                self._advance(f"{sequence.name} ({rounding})", 1)
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
