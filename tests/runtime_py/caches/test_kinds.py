"""Each kind of cache against a simulation that writes slots one by one and remembers them."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketlm.models.layers import visible
from pocketlm.runtime_py import caches
from pocketlm.runtime_py.cache_layout import CacheLayout
from pocketlm.runtime_py.errors import RunError

CONTEXT = 60
# What was written: a position, and in which text.
Written = tuple[int, str]


class Slots:
    """Slots as a device has them.

    Attributes:
        evicts_last: whether a call's queries attend before what only they see is evicted, so that
            the slots hold what its last query sees.
    """

    evicts_last = False

    def __init__(self, layout: CacheLayout) -> None:
        self.layout = layout
        self.slots: dict[int, Written] = {}
        self.ever: set[int] = set()

    def write(self, start: int, count: int, text: str) -> None:
        """Write the keys of one call at `start`."""
        raise NotImplementedError

    def fill(self, splits: list[int], text: str) -> None:
        """Write calls of these lengths from position 0."""
        start = 0
        for count in splits:
            self.write(start, count, text)
            start += count

    def readers(self, start: int, end: int) -> range:
        """Return the queries of a call that find what they see in the slots after it."""
        return range(end - 1 if self.evicts_last else start, end)

    def put(self, slot: int, written: Written) -> None:
        self.slots[slot] = written
        self.ever.add(slot)


class LinearSlots(Slots):
    def write(self, start: int, count: int, text: str) -> None:
        for position in range(start, start + count):
            self.put(position, (position, text))


class RingSlots(Slots):
    def write(self, start: int, count: int, text: str) -> None:
        slot = 0
        for position in range(start + count):
            if position >= start:
                self.put(slot, (position, text))
            slot = slot + 1 if slot + 1 < self.layout.capacity else 0


class WindowedSlots(Slots):
    """Rows side by side; when there is no room, the first of them go and the others move up."""

    evicts_last = True

    def write(self, start: int, count: int, text: str) -> None:
        rows = [self.slots[slot] for slot in range(self._rows(start))]
        for position in range(start, start + count):
            rows = rows[self._at_once :] if len(rows) == self.layout.capacity else rows
            rows.append((position, text))
        self.slots = {}
        for slot, row in enumerate(rows):
            self.put(slot, row)

    def _rows(self, tokens: int) -> int:
        rows = 0
        for _ in range(tokens):
            rows = rows - self._at_once + 1 if rows == self.layout.capacity else rows + 1
        return rows

    @property
    def _at_once(self) -> int:
        assert self.layout.window is not None
        return self.layout.capacity - self.layout.window + 1


SIMULATIONS: dict[str, Callable[[CacheLayout], Slots]] = {
    "linear": LinearSlots,
    "ring": RingSlots,
    "windowed": WindowedSlots,
}
CHUNKS = st.integers(1, 8)


@st.composite
def layouts(draw: st.DrawFn, name: str) -> tuple[CacheLayout, int]:
    """Return slots of a kind, and the chunk that they are for."""
    window, chunk = draw(st.integers(1, 12)), draw(CHUNKS)
    kind = caches.load(name)
    return kind(kind.slots(window, chunk, CONTEXT), window), chunk


@st.composite
def written(draw: st.DrawFn, name: str) -> tuple[Slots, list[int]]:
    """Return slots after some calls, and the tokens of each."""
    layout, chunk = draw(layouts(name))
    splits = draw(st.lists(st.integers(1, chunk), min_size=1, max_size=12))
    while sum(splits) > CONTEXT - chunk:
        splits.pop()
    splits = splits or [1]
    slots = SIMULATIONS[name](layout)
    slots.fill(splits, "first")
    return slots, splits


def test_every_kind_is_simulated() -> None:
    assert tuple(sorted(SIMULATIONS)) == caches.names()


@pytest.mark.parametrize("name", SIMULATIONS)
def test_held_positions_are_those_written_and_not_overwritten(name: str) -> None:
    @given(written(name))
    def check(made: tuple[Slots, list[int]]) -> None:
        slots, splits = made
        layout, length = slots.layout, sum(splits)
        content = {slot: position for slot, (position, _) in slots.slots.items()}
        assert layout.held(length) == sorted(content.values())
        for slot in range(layout.capacity):
            found = layout.position_in(slot, length - 1)
            assert found == content[slot] if slot in content else found < 0
        for slot, position in content.items():
            assert layout.slot_of(position, length - 1) == slot

    check()


@pytest.mark.parametrize("name", SIMULATIONS)
def test_every_query_of_a_call_sees_its_window_and_nothing_else(name: str) -> None:
    @given(written(name))
    def check(made: tuple[Slots, list[int]]) -> None:
        slots, splits = made
        layout, length = slots.layout, sum(splits)
        assert layout.window is not None
        for query in slots.readers(length - splits[-1], length):
            seen = layout.visible_slots(query, length - 1)
            assert sorted(slots.slots[slot][0] for slot in seen) == list(
                range(max(0, query - layout.window + 1), query + 1)
            )

    check()


@pytest.mark.parametrize("name", SIMULATIONS)
def test_arrays_get_the_same_mask(name: str) -> None:
    @given(written(name))
    def check(made: tuple[Slots, list[int]]) -> None:
        slots, splits = made
        layout, length = slots.layout, sum(splits)
        queries = range(length - splits[-1], length)
        expected = [
            [slot in layout.visible_slots(query, length - 1) for slot in range(layout.capacity)]
            for query in queries
        ]
        in_torch = layout.position_in(torch.arange(layout.capacity), torch.tensor([length - 1]))
        mask = visible(torch.tensor(queries), in_torch, layout.window)
        assert mask.tolist() == expected
        in_numpy = layout.position_in(np.arange(layout.capacity), np.array([length - 1]))
        assert np.array_equal(in_numpy, in_torch.numpy())
        positions = np.array(layout.held(length))
        found = layout.slot_of(positions, np.array([length - 1]))
        assert found.tolist() == [layout.slot_of(int(p), length - 1) for p in positions]

    check()


def wrong_keys(slots: Slots, chunk: int, target: int, began: int) -> int:
    """Write another text at `target`; count keys that its queries do not find where they look.

    Args:
        began: where the other text began.
    """
    layout, end = slots.layout, min(target + chunk, CONTEXT)
    if slots.evicts_last and chunk > 1:
        return sum(wrong_keys(slots, 1, position, began) for position in range(target, end))
    try:
        slots.write(target, end - target, "other")
    except KeyError:  # a row that was never written, or is gone
        return 1
    wrong = 0
    for query in range(target, end):
        assert layout.window is not None
        for position in range(max(0, query - layout.window + 1), query + 1):
            slot = layout.slot_of(position, end - 1)
            wrong += slots.slots.get(slot) != (position, "first" if position < began else "other")
    return wrong


@pytest.mark.parametrize("name", SIMULATIONS)
def test_going_back_is_possible_just_where_no_key_is_lost(name: str) -> None:
    @given(written(name), CHUNKS, st.data())
    def check(made: tuple[Slots, list[int]], chunk: int, data: st.DataObject) -> None:
        slots, splits = made
        layout, length = slots.layout, sum(splits)
        target = data.draw(st.integers(0, length))
        chunk = min(chunk, layout.capacity - layout.most_seen + 1)
        lost = wrong_keys(slots, chunk, target, target) > 0
        if layout.window == 1:  # no query needs an old key, but a windowed cache moves them
            assert not (lost and layout.can_rewind(length, target))
        else:
            assert layout.can_rewind(length, target) == (not lost)

    check()


@pytest.mark.parametrize("name", SIMULATIONS)
def test_so_many_tokens_back_are_always_possible_and_no_more(name: str) -> None:
    @given(layouts(name))
    def check(made: tuple[CacheLayout, int]) -> None:
        layout, _ = made
        back = [length - layout.earliest_rewind(length) for length in range(1, CONTEXT + 1)]
        if layout.rewind_tokens is None:
            assert back == list(range(1, CONTEXT + 1))
        else:
            full = back[layout.capacity + layout.most_seen :]
            assert full == [] or min(full) >= layout.rewind_tokens
            assert layout.rewind_tokens in back or layout.capacity >= CONTEXT - layout.most_seen
        earliest = [layout.earliest_rewind(length) for length in range(1, CONTEXT + 1)]
        assert all(before <= after for before, after in pairwise(earliest))

    check()


@pytest.mark.parametrize("name", SIMULATIONS)
def test_touched_slots_were_written_once(name: str) -> None:
    @given(layouts(name), st.integers(1, CONTEXT))
    def check(made: tuple[CacheLayout, int], length: int) -> None:
        slots = SIMULATIONS[name](made[0])
        slots.fill([1] * length, "first")
        assert slots.layout.touched_slots(length) == len(slots.ever)

    check()


@pytest.mark.parametrize("window", range(1, 8))
@pytest.mark.parametrize("chunk", range(1, 8))
def test_no_slot_of_a_ring_is_missing_and_none_is_too_many(window: int, chunk: int) -> None:
    ring = caches.load("ring")
    capacity = ring.slots(window, chunk, 1000)
    assert (capacity, ring.slots(window, chunk, 5)) == (window + chunk - 1, min(5, capacity))
    assert not misses_a_key(ring(capacity, window), chunk)
    if capacity > 1:
        assert misses_a_key(ring(capacity - 1, window), chunk)


def misses_a_key(layout: CacheLayout, chunk: int) -> bool:
    """Write a ring in calls of a chunk; say whether a query misses a key of its window."""
    assert layout.window is not None
    slots = RingSlots(layout)
    for start in range(0, 40, chunk):
        slots.write(start, chunk, "first")
        held = {position for position, _ in slots.slots.values()}
        if not held >= set(range(max(0, start - layout.window + 1), start + chunk)):
            return True
    return False


def test_caches_go_back_as_far_as_the_strictest() -> None:
    ring, windowed = caches.load("ring"), caches.load("windowed")
    linear = caches.load("linear")(60, None)
    assert caches.rewind_tokens([linear]) is None
    assert caches.rewind_tokens([linear, ring(12, 8)]) == 5
    assert caches.rewind_tokens([ring(12, 8), windowed(12, 8)]) == 0
    assert caches.rewind_error([linear, ring(12, 8)], 40, 35) is None
    assert caches.rewind_error([linear, ring(12, 8), ring(10, 8)], 40, 34) == (
        "rewind from 40 to 34: a cache of 10 slots has overwritten what position 34 has to see (a "
        "window of 8); go back to 37 or later, or to 0"
    )
    assert caches.rewind_error([ring(12, 8), windowed(12, 8)], 40, 0) is None


def test_an_unknown_kind_is_answered_with_the_known_ones() -> None:
    with pytest.raises(RunError, match="'round' is unknown; known: linear, ring, windowed; update"):
        caches.load("round")
