"""A runner's JSON lines as values: phases with their mappings and regions, calls, how it ended.

A run that was killed leaves whole lines and perhaps a part of one: what cannot be read is passed
over.
"""

from dataclasses import dataclass
from itertools import takewhile
from typing import Any, TypeVar

from pocketlm.runtime_py.typed_json import FieldError, load_object, read_as

T = TypeVar("T")

# What a runner's numbers fit into: larger ones are none of its.
_LARGEST, _LARGEST_ID = 2**63 - 1, 2**31 - 1


@dataclass(frozen=True)
class Mapping:
    """Mappings of one file, or of memory without one, added up."""

    path: str
    resident_bytes: int
    anonymous_bytes: int
    dirty_bytes: int
    swap_bytes: int

    def __post_init__(self) -> None:
        check_range(self.resident_bytes, self.dirty_bytes, self.swap_bytes)
        check_range(self.anonymous_bytes, most=self.resident_bytes)

    @property
    def file_bytes(self) -> int:
        """Resident pages that are the file's own: they can be dropped and read again."""
        return self.resident_bytes - self.anonymous_bytes


@dataclass(frozen=True)
class Region:
    """A range of addresses, with the purpose that the runner states."""

    part: str
    bytes: int
    resident_bytes: int
    swap_bytes: int

    def __post_init__(self) -> None:
        check_range(self.bytes, self.resident_bytes, self.swap_bytes)


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

    def __post_init__(self) -> None:
        check_range(self.clock_s, self.peak_bytes)

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

    def __post_init__(self) -> None:
        check_range(self.clock_s, self.wall_s, self.tokens, self.position)
        check_range(self.greedy_id, most=_LARGEST_ID)


@dataclass(frozen=True)
class _Start:
    clock_s: float

    def __post_init__(self) -> None:
        check_range(self.clock_s)


@dataclass(frozen=True)
class _Loaded:
    wall_s: float

    def __post_init__(self) -> None:
        check_range(self.wall_s)


@dataclass(frozen=True)
class RunEvents:
    """All events of a runner.

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

    @property
    def measured_calls(self) -> tuple[Call, ...]:
        """Calls before the first row that was kept: nothing is written down between them."""
        return tuple(takewhile(lambda call: not call.is_kept, self.calls))


def read_events(text: str) -> RunEvents:
    """Read what a runner wrote to its standard output."""
    phases, calls = [], []
    start_s, load_s, runtime, error, ended = 0.0, None, {}, "", False
    for line in text.splitlines():
        event = _parsed(line)
        match event.get("event"):
            case "start":
                start = _read(_Start, event)
                start_s = start.clock_s if start else start_s
            case "runtime":
                runtime = event
            case "loaded":
                loaded = _read(_Loaded, event)
                load_s = loaded.wall_s if loaded else load_s
            case "phase":
                phases.append(_read(PhaseMark, event))
            case "run":
                # Only calls whose row was kept say more of it.
                kept = {"is_kept": "finite" in event}
                calls.append(_read(Call, {"mean": None, "std": None} | event | kept))
            case "error":
                error = str(event.get("reason", ""))
            case "end":
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


class Watch:
    """Finds, among lines as they come, the end of a phase while the runner still lives."""

    def __init__(self, phase: str) -> None:
        self._phase = phase
        self._pid: int | None = None

    def pid_at_end(self, line: str) -> int | None:
        """Return the runner's process if this line ends the phase."""
        event = _parsed(line)
        pid = event.get("pid")
        if event.get("event") == "start" and type(pid) is int and pid > 0:
            self._pid = pid
        ends = event.get("event") == "phase" and event.get("phase") == self._phase
        return self._pid if ends else None


def check_range(*numbers: float, most: float = _LARGEST) -> None:
    """Refuse what no runner and no sampler counts.

    Raises:
        FieldError: a number is negative, or too large.
    """
    if not all(0 <= number <= most for number in numbers):
        raise FieldError(f"{', '.join(map(str, numbers))}: expected 0 to {most}")


def _parsed(line: str) -> dict[str, Any]:
    try:
        return load_object(line)
    except FieldError:
        return {}


def _read(kind: type[T], event: dict[str, Any]) -> T | None:
    try:
        return read_as(kind, event)
    except FieldError:
        return None
