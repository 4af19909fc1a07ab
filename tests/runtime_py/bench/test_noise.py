import os
from types import SimpleNamespace
from typing import Any

import pytest

from pocketlm.runtime_py.bench import noise
from pocketlm.runtime_py.bench.noise import NoiseMeter


class Clock:
    """Processors whose times a test sets."""

    def __init__(self) -> None:
        self.user = self.steal = self.own = self.wall = 0.0

    def cpu_times(self) -> Any:
        return SimpleNamespace(user=self.user, nice=0.0, system=0.0, steal=self.steal)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(noise, "psutil", clock)
    monkeypatch.setattr(noise, "process_time", lambda: clock.own)
    monkeypatch.setattr(noise, "monotonic", lambda: clock.wall)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    return clock


def test_what_others_took_is_a_share_of_all_processors(clock: Clock) -> None:
    meter = NoiseMeter()
    clock.user, clock.own, clock.wall = 15.0, 14.0, 10.0
    assert meter.foreign_share() == pytest.approx(0.05)


def test_what_a_host_gives_to_others_counts(clock: Clock) -> None:
    meter = NoiseMeter()
    clock.user, clock.own, clock.steal, clock.wall = 14.0, 14.0, 2.0, 10.0
    assert meter.foreign_share() == pytest.approx(0.1)


def test_clocks_that_disagree_a_little_give_no_negative_share(clock: Clock) -> None:
    meter = NoiseMeter()
    assert meter.foreign_share() == 0.0
    clock.user, clock.own, clock.wall = 9.9, 10.0, 10.0
    assert meter.foreign_share() == 0.0
