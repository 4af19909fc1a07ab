"""What golden answers touch is counted from their tokens and positions."""

from dataclasses import replace
from typing import Any

import pytest

from pocketlm.runtime_py.golden import Golden
from pocketlm.runtime_py.golden_cases import PlacedCall, PlacedCase
from pocketlm.runtime_py.golden_coverage import Coverage, coverage_of
from pocketlm.runtime_py.manifest import CacheEntry

# Rings of 11 slots for a window of 8 in a context of 64.
CACHES = (CacheEntry("ring", 11, 8, 1, 4), CacheEntry("linear", 64, None, 1, 4))


@pytest.fixture
def golden(fake_bundle: Any) -> Golden:
    return Golden.from_json((fake_bundle.folder / "golden/onnx.json").read_text())


def coverage(golden: Golden, *calls: PlacedCall) -> Coverage:
    placed = (PlacedCase("placed", calls, ()),) if calls else ()
    return coverage_of(replace(golden, placed_cases=placed), CACHES, 64, 400)


def test_a_text_past_a_ring_touches_wrap_and_window(golden: Golden) -> None:
    found = coverage(golden)
    assert (found.has_wraps, found.has_window_edges, found.has_last_position) == (True, True, False)
    assert found.positions == 21
    assert found.not_touched[:2] == [
        "the last position of the context",
        "43 of 64 positions (rotary tables)",
    ]


def test_short_texts_touch_neither(golden: Golden) -> None:
    found = coverage(replace(golden, cases=golden.cases[:1]))
    assert found.not_touched[:2] == ["the wrap of a ring cache", "the far edge of a window"]


def test_placed_tokens_touch_what_they_reach_back_to(golden: Golden) -> None:
    short = replace(golden, cases=golden.cases[:1])
    found = coverage(short, PlacedCall(0, (5, 6)), PlacedCall(8, (7,)), PlacedCall(11, (8, 9)))
    assert (found.has_wraps, found.has_window_edges) == (True, True)
    assert coverage(short, PlacedCall(63, (5,))).has_last_position


def test_a_whole_context_and_table_leave_nothing(golden: Golden) -> None:
    calls = PlacedCall(0, tuple(range(64)))
    found = coverage_of(
        replace(golden, placed_cases=(PlacedCase("all", (calls,), ()),)), CACHES, 64, 64
    )
    assert found.table_rows >= 64
    assert found.not_touched == []
