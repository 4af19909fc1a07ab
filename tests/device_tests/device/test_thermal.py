"""Temperatures and clocks, and the rule for a throttled run."""

import pytest

from pocketlm.device_tests.device.thermal import ThermalState, read_thermal, throttling_reason

RECORDED = """
@@ thermal_status
/system/bin/dumpsys
Thermal Status: 2

@@ temperatures
41000
38500
0
-274000

@@ clocks_allowed
1800000
1400000

@@ clocks_possible
2800000
1400000
"""
STEADY = (0.2,) * 90


def test_recorded_state_is_read() -> None:
    assert read_thermal(RECORDED) == ThermalState(2, 41.0, 1_800_000 / 2_800_000)


def test_what_a_device_hides_is_not_known() -> None:
    assert read_thermal("@@ thermal_status\n\n@@ clocks_allowed\n1\n") == ThermalState()


@pytest.mark.parametrize(
    ("after", "decode_s", "expected"),
    [
        (ThermalState(1, 40.0, 1.0), STEADY, ""),
        (ThermalState(2), STEADY, "the thermal status is 2 of 6"),
        (
            ThermalState(0, 71.0, 0.5),
            STEADY,
            "a core may run at 50% of its clock only, its warmest",
        ),
        (ThermalState(), (0.2,) * 60 + (0.26,) * 30, "decoding was 23% slower at its end"),
        (ThermalState(), (0.2,) * 60 + (0.22,) * 30, ""),
        # One slow step is no trend, and few steps are none.
        (ThermalState(), (*STEADY[:89], 5.0), ""),
        (ThermalState(), (0.2,) * 40 + (0.4,) * 20, ""),
        # Nothing grows hot in less than 10 s.
        (ThermalState(), (0.1,) * 60 + (0.13,) * 30, ""),
        (ThermalState(), (0.001,) * 6000 + (0.002,) * 1999, ""),
        (ThermalState(), (0.001,) * 6000 + (0.002,) * 3000, "decoding was 50% slower"),
        # But what the device itself says counts at once.
        (ThermalState(3), (0.1,), "the thermal status is 3 of 6"),
    ],
)
def test_throttled_is_hot_capped_or_slowed(
    after: ThermalState, decode_s: tuple[float, ...], expected: str
) -> None:
    reason = throttling_reason(ThermalState(0, 35.0, 1.0), after, decode_s)
    assert reason.startswith(expected)
    assert bool(reason) == bool(expected)


def test_a_cap_that_was_there_before_is_no_throttling() -> None:
    capped = ThermalState(0, 35.0, 0.5)
    assert throttling_reason(capped, capped, STEADY) == ""
