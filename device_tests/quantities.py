"""Numbers as people read them: sizes, durations, rates, and text from a device."""

from collections.abc import Iterable
from dataclasses import dataclass

from pocketlm.runtime_py.sizes import MINUS as MINUS
from pocketlm.runtime_py.sizes import size_text as size_text

NOTHING = "–"


@dataclass(frozen=True)
class ByteUnit:
    """A unit that a whole table or axis is written in."""

    name: str
    size: int
    decimals: int

    def number(self, size_bytes: float) -> str:
        """Return a size without its unit: "1,042.1"."""
        return f"{size_bytes / self.size:,.{self.decimals}f}".replace("-", MINUS)

    def signed_number(self, size_bytes: float) -> str:
        """Return a difference without its unit: "+3.2", "−0.4", "0.0"."""
        text = self.number(size_bytes)
        if not any(digit in text for digit in "123456789"):
            return text.lstrip(MINUS)
        return text if text.startswith(MINUS) else f"+{text}"


def byte_unit(sizes_bytes: Iterable[int]) -> ByteUnit:
    """Return the unit in which the largest size has at least three digits; MB at most.

    Sizes of one table are compared with each other, so all of them get one unit.
    """
    largest = max((abs(size) for size in sizes_bytes), default=0)
    if largest >= 100_000_000:
        return ByteUnit("MB", 1_000_000, 1)
    if largest >= 1_000_000:
        return ByteUnit("MB", 1_000_000, 2)
    return ByteUnit("kB", 1_000, 1)


def duration_text(duration_s: float) -> str:
    """Return a duration with about three digits: "42.0 ms", "1.31 s", "128 s"."""
    sign, seconds = (MINUS if duration_s < 0 else ""), abs(duration_s)
    if seconds < 0.9995:
        return f"{sign}{1000 * seconds:.{1 if seconds < 0.09995 else 0}f} ms"
    return f"{sign}{seconds:,.{2 if seconds < 9.995 else 1 if seconds < 99.95 else 0}f} s"


def rate_text(per_s: float) -> str:
    """Return a rate without its unit, with about three digits: "18.3", "0.42", "1,204"."""
    sign, rate = (MINUS if per_s < 0 else ""), abs(per_s)
    return f"{sign}{rate:,.{2 if rate < 9.995 else 1 if rate < 99.95 else 0}f}"


def percent_text(ratio: float) -> str:
    """Return a signed percentage: "+3.1 %", "−12 %", "0.0 %"."""
    percent = 100 * ratio
    text = f"{abs(percent):,.{1 if abs(percent) < 9.95 else 0}f} %"
    if not any(digit in text for digit in "123456789"):
        return text
    return f"{MINUS if percent < 0 else '+'}{text}"


def share_text(ratio: float) -> str:
    """Return a share of something: "40 %", "3.1 %", "0.02 %"."""
    percent = 100 * ratio
    decimals = 0 if percent >= 9.95 else 1 if percent >= 0.95 or percent == 0 else 2
    return f"{percent:.{decimals}f} %"
