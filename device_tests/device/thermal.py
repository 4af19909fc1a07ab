"""How warm a device is, how fast it may run, and what that says of times measured on it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from pocketlm.device_tests.device.shell import read_sections, section
from pocketlm.device_tests.device.shell_numbers import NUMBER, whole_number

# Android's thermal status: 0 none, 1 light, 2 moderate: from there on clocks are lowered.
# https://developer.android.com/reference/android/os/PowerManager#THERMAL_STATUS_MODERATE
MODERATE = 2
# Decoding may slow down by this much from its first third to its last.
SLOWED_RATIO = 0.15
# A third of fewer steps is noise, and nothing grows hot in less time.
_LEAST_STEPS, _LEAST_S = 30, 10.0
# What cores may run at, against what they could.
_CAPPED_RATIO = 0.9
_CORES = "/sys/devices/system/cpu/cpu[0-9]*"


@dataclass(frozen=True)
class ThermalState:
    """How warm a device is; None where it does not say.

    Attributes:
        status: Android's, 0 to 6.
        warmest_celsius: of all sensors.
        allowed_ratio: the lowest that a core may run at now, against what it could.
    """

    status: int | None = None
    warmest_celsius: float | None = None
    allowed_ratio: float | None = None


def thermal_command() -> str:
    """Return shell text that prints what `read_thermal` reads."""
    return "; ".join(
        (
            section(
                "thermal_status",
                "command -v dumpsys >/dev/null && "
                "dumpsys thermalservice | grep -i 'thermal status'",
            ),
            section("temperatures", "cat /sys/class/thermal/thermal_zone*/temp"),
            section("clocks_allowed", f"cat {_CORES}/cpufreq/scaling_max_freq"),
            section("clocks_possible", f"cat {_CORES}/cpufreq/cpuinfo_max_freq"),
        )
    )


def read_thermal(output: str) -> ThermalState:
    """Read the output of `thermal_command`."""
    found = read_sections(output)
    said = found.get("thermal_status", "")
    status = re.search(rf"Thermal Status: ({NUMBER})", said, re.IGNORECASE)
    words = found.get("temperatures", "").splitlines()
    sensors = [number / 1000 for word in words if (number := whole_number(word)) is not None]
    # Sensors that are off show zero or absurd values.
    celsius = [value for value in sensors if 0 < value < 150]
    allowed, possible = (
        [whole_number(word) or 0 for word in found.get(name, "").split()]
        for name in ("clocks_allowed", "clocks_possible")
    )
    # A core that says one of them only would shift the rest.
    pairs = zip(allowed, possible, strict=True) if len(allowed) == len(possible) else ()
    ratios = [now / could for now, could in pairs if now and could]
    return ThermalState(
        int(status[1]) if status else None,
        max(celsius, default=None),
        min(ratios, default=None),
    )


def throttling_reason(before: ThermalState, after: ThermalState, decode_s: Sequence[float]) -> str:
    """Return why times of a run cannot be trusted, empty where they can.

    Throttled means: Android calls its thermal status moderate or worse, or a core may not run as
    fast any more as it might before, or decoding slowed by more than `SLOWED_RATIO` from the first
    third of its steps to the last, by their medians; of a short run that says nothing.

    Args:
        decode_s: time of each token, in order.
    """
    reasons = []
    if after.status is not None and after.status >= MODERATE:
        reasons.append(f"the thermal status is {after.status} of 6")
    allowed, allowed_before = after.allowed_ratio, before.allowed_ratio
    if allowed and allowed_before and allowed < _CAPPED_RATIO * allowed_before:
        reasons.append(f"a core may run at {allowed:.0%} of its clock only")
    third = len(decode_s) // 3
    if third >= _LEAST_STEPS and sum(decode_s) >= _LEAST_S:
        first_s, last_s = median(decode_s[:third]), median(decode_s[-third:])
        if first_s < (1 - SLOWED_RATIO) * last_s:
            slowed = 1 - first_s / last_s
            reasons.append(f"decoding was {slowed:.0%} slower at its end than at its beginning")
    if reasons and after.warmest_celsius is not None:
        reasons.append(f"its warmest sensor shows {after.warmest_celsius:.0f} °C")
    return ", ".join(reasons)
