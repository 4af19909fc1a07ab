"""The sampler's lines as values. Lines that were cut are passed over."""

import json
from typing import Any

from device_tests.report.document import Sample


def read_samples(text: str, start_s: float) -> tuple[Sample, ...]:
    """Read what the sampler wrote.

    Args:
        start_s: when the run began, of the same clock.
    """
    found = []
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "clock_s" in row and "resident_bytes" in row:
            found.append(_sample(row, start_s))
    return tuple(found)


def _sample(row: dict[str, Any], start_s: float) -> Sample:
    stalled_us = row.get("pressure_some_us")
    return Sample(
        clock_s=round(row["clock_s"] - start_s, 6),
        resident_bytes=row["resident_bytes"],
        anonymous_bytes=row.get("anonymous_bytes"),
        file_bytes=row.get("file_bytes"),
        swap_bytes=row.get("swap_bytes"),
        available_bytes=row.get("machine_available_bytes"),
        pressure_some_s=None if stalled_us is None else stalled_us / 1e6,
        celsius=row.get("warmest_celsius"),
    )
