"""A runner's JSON lines as values: phases with their mappings and regions, calls, how it ended.

A run that was killed leaves whole lines and perhaps a part of one: what cannot be read is passed
over. Knows nothing of what the memory is for.
"""

import json
from dataclasses import dataclass, fields
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Mapping:
    """Mappings of one file, or of memory without one, added up."""

    path: str
    resident_bytes: int
    anonymous_bytes: int
    dirty_bytes: int
    swap_bytes: int

    @property
    def file_bytes(self) -> int:
        """Resident pages that are the file's own: they can be dropped and read again."""
        return self.resident_bytes - self.anonymous_bytes


@dataclass(frozen=True)
class Region:
    """A range of addresses whose purpose the runner knows."""

    part: str
    bytes: int
    resident_bytes: int
    swap_bytes: int


@dataclass(frozen=True)
class PhaseMark:
    """The end of a phase.

    Attributes:
        peak_bytes: most that was resident since the last mark, or since the start where the kernel
            cannot forget a peak (`peak_is_of_phase`).
        regions_are_counted: whether the kernel tells which pages of a region are resident.
    """

    phase: str
    clock_s: float
    peak_bytes: int
    peak_is_of_phase: bool
    regions_are_counted: bool
    regions: tuple[Region, ...]
    mappings: tuple[Mapping, ...]

    @property
    def resident_bytes(self) -> int:
        return sum(mapping.resident_bytes for mapping in self.mappings)

    @property
    def anonymous_bytes(self) -> int:
        return sum(mapping.anonymous_bytes for mapping in self.mappings)

    @property
    def swap_bytes(self) -> int:
        return sum(mapping.swap_bytes for mapping in self.mappings)


@dataclass(frozen=True)
class Call:
    """Tokens that were fed at once.

    Attributes:
        mean, std: of the row of logits, where it was kept and is finite.
        is_kept: whether its row is in the logits file.
    """

    clock_s: float
    wall_s: float
    tokens: int
    position: int
    greedy_id: int
    is_kept: bool
    mean: float | None
    std: float | None


@dataclass(frozen=True)
class RunEvents:
    """Everything that a runner told.

    Attributes:
        start_s: of the device's monotonic clock, which all other times are of too.
        ended: whether it came to its end.
    """

    start_s: float
    load_s: float | None
    runtime: str
    runtime_version: str
    kernels: str
    phases: tuple[PhaseMark, ...]
    calls: tuple[Call, ...]
    error: str
    ended: bool


def read_events(text: str) -> RunEvents:
    """Read what a runner wrote to its standard output."""
    phases, calls = [], []
    start_s, load_s, runtime, error, ended = 0.0, None, {}, "", False
    for line in text.splitlines():
        match _parsed(line):
            case {"event": "start", "clock_s": float(clock_s)}:
                start_s = clock_s
            case {"event": "runtime"} as event:
                runtime = event
            case {"event": "loaded", "wall_s": float(wall_s)}:
                load_s = wall_s
            case {"event": "phase"} as event:
                phases.append(_phase(event))
            case {"event": "run"} as event:
                calls.append(_call(event))
            case {"event": "error", "reason": str(reason)}:
                error = reason
            case {"event": "end"}:
                ended = True
    return RunEvents(
        start_s=start_s,
        load_s=load_s,
        runtime=str(runtime.get("name", "")),
        runtime_version=str(runtime.get("version", "")),
        kernels=str(runtime.get("kernels", "")),
        phases=tuple(phase for phase in phases if phase is not None),
        calls=tuple(call for call in calls if call is not None),
        error=error,
        ended=ended,
    )


def _parsed(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _phase(event: dict[str, Any]) -> PhaseMark | None:
    try:
        return PhaseMark(
            phase=str(event["phase"]),
            clock_s=float(event["clock_s"]),
            peak_bytes=int(event["peak_bytes"]),
            peak_is_of_phase=bool(event["peak_is_of_phase"]),
            regions_are_counted=bool(event["regions_are_counted"]),
            regions=tuple(_row(Region, row) for row in event["regions"]),
            mappings=tuple(_row(Mapping, row) for row in event["mappings"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _call(event: dict[str, Any]) -> Call | None:
    try:
        return Call(
            clock_s=float(event["clock_s"]),
            wall_s=float(event["wall_s"]),
            tokens=int(event["tokens"]),
            position=int(event["position"]),
            greedy_id=int(event["greedy_id"]),
            is_kept="finite" in event,
            mean=event.get("mean"),
            std=event.get("std"),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _row(kind: type[T], row: dict[str, Any]) -> T:
    return kind(**{field.name: row[field.name] for field in fields(kind)})  # type: ignore[arg-type]
