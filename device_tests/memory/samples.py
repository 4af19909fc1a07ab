"""The sampler's lines as values. Lines that were cut are passed over."""

from dataclasses import dataclass

from pocketlm.device_tests.memory.events import check_range
from pocketlm.device_tests.memory.values import Sample
from pocketlm.runtime_py.typed_json import FieldError, load_object, read_as


@dataclass(frozen=True)
class _Line:
    """A line, as far as a report wants it; what the device does not say is left out."""

    clock_s: float
    resident_bytes: int
    anonymous_bytes: int | None = None
    file_bytes: int | None = None
    swap_bytes: int | None = None
    machine_available_bytes: int | None = None
    pressure_some_us: int | None = None
    warmest_celsius: float | None = None

    def __post_init__(self) -> None:
        sizes = (
            self.anonymous_bytes, self.file_bytes, self.swap_bytes, self.machine_available_bytes,
            self.pressure_some_us,
        )  # fmt: skip
        check_range(self.clock_s, self.resident_bytes, *(size or 0 for size in sizes))


def read_samples(text: str, start_s: float) -> tuple[Sample, ...]:
    """Read what the sampler wrote.

    Args:
        start_s: when the run began, of the same clock.
    """
    found = []
    for text_line in text.splitlines():
        try:
            line = read_as(_Line, load_object(text_line))
        except FieldError:
            continue
        found.append(_sample(line, start_s))
    return tuple(found)


def _sample(line: _Line, start_s: float) -> Sample:
    stalled_us = line.pressure_some_us
    return Sample(
        clock_s=round(line.clock_s - start_s, 6),
        resident_bytes=line.resident_bytes,
        anonymous_bytes=line.anonymous_bytes,
        file_bytes=line.file_bytes,
        swap_bytes=line.swap_bytes,
        available_bytes=line.machine_available_bytes,
        pressure_some_s=None if stalled_us is None else stalled_us / 1e6,
        celsius=line.warmest_celsius,
    )
