"""The events that a build reports while it runs: one kind of value for each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

# How a stage's own code reports: (stage, done, total, what).
Advance = Callable[[str, int, int, str], None]

Unit = Literal["bytes", "steps"]


@dataclass(frozen=True)
class StageReport:
    """What one stage took.

    Attributes:
        wall_s, peak_bytes: of the run that did the work; peak_bytes is resident memory.
        reused: done by an earlier run that was interrupted.
    """

    name: str
    wall_s: float
    peak_bytes: int
    reused: bool


@dataclass(frozen=True)
class StagesPlanned:
    """Everything is checked, the work begins.

    Attributes:
        names: of all stages, in order.
    """

    names: tuple[str, ...]


@dataclass(frozen=True)
class StageStarted:
    name: str


@dataclass(frozen=True)
class StageAdvanced:
    """`done` of `total` of a stage; `what` is in work or was done last."""

    name: str
    done: int
    total: int
    unit: Unit
    what: str


@dataclass(frozen=True)
class StageFinished:
    report: StageReport


@dataclass(frozen=True)
class Notice:
    """Something that the user should know before the end."""

    text: str


Event = StagesPlanned | StageStarted | StageAdvanced | StageFinished | Notice
Notify = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Tell nobody."""


def silent(stage: str, done: int, total: int, what: str) -> None:
    """Report nothing."""
