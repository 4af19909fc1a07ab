"""From raw measurements of several rounds to medians, spreads and ratios."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Raw = Mapping[str, Any]


@dataclass(frozen=True)
class Spread:
    """A figure over the rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float], digits: int = 4) -> "Spread":
        """Summarize at least one value, to a number of significant digits."""
        kept = (statistics.median(values), min(values), max(values))
        return cls(*(float(f"{value:.{digits}g}") for value in kept))


@dataclass(frozen=True)
class MemoryFigures:
    """Resident bytes."""

    resident_bytes: Spread
    anonymous_bytes: Spread
    file_bytes: Spread

    @classmethod
    def of(cls, anonymous: Sequence[float], file: Sequence[float]) -> "MemoryFigures":
        """Summarize one value of each kind a round."""
        together = [a + f for a, f in zip(anonymous, file, strict=True)]
        return cls(Spread.of(together, 6), Spread.of(anonymous, 6), Spread.of(file, 6))


@dataclass(frozen=True)
class DecodeFigures:
    """Decode at one depth.

    Attributes:
        model: resident after it, less the interpreter.
    """

    depth_tokens: int
    tokens_per_s: Spread
    model: MemoryFigures


@dataclass(frozen=True)
class Figures:
    """What one system did, over the rounds.

    Attributes:
        first_token_s: loading and a cold prompt of the prefill length together.
        prefill_tokens_per_s: None where only depths were measured.
        interpreter: resident before a model was loaded, libraries imported.
    """

    rounds: int
    load_s: Spread
    first_token_s: Spread
    prefill_tokens_per_s: Spread | None
    decode: tuple[DecodeFigures, ...]
    interpreter: MemoryFigures

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def summarize(raws: Sequence[Raw], prefill_tokens: int) -> Figures:
    """Summarize what one system's worker printed in each round; at least one round."""
    prefill = [
        prefill_tokens / statistics.median(raw["prefill_s"]) for raw in raws if raw["prefill_s"]
    ]
    return Figures(
        rounds=len(raws),
        load_s=Spread.of([raw["load_s"] for raw in raws]),
        first_token_s=Spread.of([raw["first_token_s"] for raw in raws]),
        prefill_tokens_per_s=Spread.of(prefill) if prefill else None,
        decode=tuple(_decode(raws, place) for place in range(len(raws[0]["decode"]))),
        interpreter=MemoryFigures.of(
            [raw["interpreter"]["anonymous_bytes"] for raw in raws],
            [raw["interpreter"]["file_bytes"] for raw in raws],
        ),
    )


def ratio(value: float, baseline: float) -> float:
    """Return how many times the baseline a figure is, to three significant digits."""
    return float(f"{value / baseline:.3g}")


def _decode(raws: Sequence[Raw], place: int) -> DecodeFigures:
    steps = [raw["decode"][place] for raw in raws]

    def less_interpreter(kind: str) -> list[float]:
        return [raw["decode"][place][kind] - raw["interpreter"][kind] for raw in raws]

    return DecodeFigures(
        depth_tokens=steps[0]["depth_tokens"],
        tokens_per_s=Spread.of([1 / step["median_s"] for step in steps]),
        model=MemoryFigures.of(less_interpreter("anonymous_bytes"), less_interpreter("file_bytes")),
    )
