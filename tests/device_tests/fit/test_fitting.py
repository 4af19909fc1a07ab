"""Whether it fits: the rule, its arithmetic, and what would help."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketlm.device_tests.fit.fitting import Variant, compare_with_budget, fit, positions_of
from pocketlm.device_tests.fit.memory_budget import MemoryBudget
from pocketlm.runtime_py.memory_prediction import Positions, PredictedPart, Prediction
from tests.small_memory import FLOATS, TENSORS, small_memory

MB = 1_000_000
PHONE = MemoryBudget("phone", 4000 * MB, 1200 * MB, 2000 * MB, evicts=True)
BOARD = MemoryBudget("board", 4000 * MB, 1200 * MB, 400 * MB, evicts=False)
ORDER = ("will not fit", "tight", "fits")


def needs(dirty_mb: int, clean_mb: int = 0, load_mb: int = 0) -> Prediction:
    return Prediction(
        (
            PredictedPart("weights, packed", "dirty", dirty_mb * MB, ""),
            PredictedPart("runtime code", "clean", clean_mb * MB, ""),
        ),
        load_mb * MB,
        "",
    )


@pytest.mark.parametrize(
    ("budget", "need", "status"),
    [
        # A quarter of the RAM is 1000 MB, and 950 + 5 % = 997.5 MB.
        (PHONE, needs(950), "fits"),
        (PHONE, needs(960), "tight"),
        # Two fifths are 1600 MB.
        (PHONE, needs(1520), "tight"),
        (PHONE, needs(1530), "will not fit"),
        # All of it against what is available, 1200 MB.
        (PHONE, needs(900, clean_mb=240), "fits"),
        (PHONE, needs(900, clean_mb=250), "tight"),
        (PHONE, needs(900, load_mb=1150), "tight"),
        # Nothing else can be ended, and weights do not compress in swap: what is available.
        (BOARD, needs(1140), "fits"),
        (BOARD, needs(1140, clean_mb=5), "tight"),
        (BOARD, needs(1150), "will not fit"),
    ],
)
def test_the_rule(budget: MemoryBudget, need: Prediction, status: str) -> None:
    assert compare_with_budget(need, budget).status == status


def test_a_phone_with_much_available_may_use_it() -> None:
    idle = replace(PHONE, available_bytes=3000 * MB)
    assert (idle.easy_bytes, idle.most_bytes) == (1000 * MB, 3000 * MB)
    assert compare_with_budget(needs(2000), idle).status == "tight"


def test_each_comparison_is_a_sentence() -> None:
    assert compare_with_budget(needs(1530), PHONE).reasons == (
        "dirty memory: 1.53 GB + 5% margin = 1.61 GB; 1.00 GB without memory pressure, 1.60 GB at "
        "most (25% and 40% of 4.00 GB RAM: Android kills background apps for the foreground app)",
        "the system would kill it (out of memory)",
    )
    assert compare_with_budget(needs(1150), BOARD).reasons == (
        "dirty memory: 1.15 GB + 5% margin = 1.21 GB; 1.20 GB without memory pressure, 1.20 GB at "
        "most (what is available, without swap, because weights do not compress: the system kills "
        "no other app)",
        "the system would kill it (out of memory)",
    )
    assert compare_with_budget(needs(950), PHONE).reasons[1:] == (
        "peak: 950 MB + 5% margin = 998 MB; 1.20 GB available",
    )
    no_swap = replace(BOARD, swap_bytes=0)
    assert (
        "(what is available: the system kills no"
        in compare_with_budget(needs(10), no_swap).reasons[0]
    )


@pytest.mark.parametrize(
    ("budget", "need", "reason"),
    [
        (PHONE, needs(960), "it would run, but the system kills other apps"),
        (
            PHONE,
            needs(900, load_mb=1150),
            "it would run, but the system may kill other apps while it loads, and drops file pages "
            "and reads them again",
        ),
        (
            BOARD,
            needs(1140, clean_mb=5),
            "it would run, but the system drops file pages and reads them again",
        ),
    ],
)
def test_what_is_tight_says_what_the_system_does(
    budget: MemoryBudget, need: Prediction, reason: str
) -> None:
    assert compare_with_budget(need, budget).reasons[-1] == reason


SIZES = st.integers(0, 20_000)


@given(
    need=st.builds(needs, SIZES, SIZES, SIZES),
    ram=SIZES,
    available=SIZES,
    swap=SIZES,
    more=st.tuples(SIZES, SIZES, SIZES),
    evicts=st.booleans(),
)
def test_more_memory_never_gives_a_worse_status(
    need: Prediction, ram: int, available: int, swap: int, more: tuple[int, int, int], evicts: bool
) -> None:
    small = MemoryBudget("a", ram * MB, available * MB, swap * MB, evicts)
    large = MemoryBudget(
        "b", (ram + more[0]) * MB, (available + more[1]) * MB, (swap + more[2]) * MB, evicts
    )
    ranks = [ORDER.index(compare_with_budget(need, budget).status) for budget in (small, large)]
    assert ranks[0] <= ranks[1]


@given(need=st.tuples(SIZES, SIZES, SIZES), more=st.tuples(SIZES, SIZES, SIZES))
def test_needing_more_never_gives_a_better_status(
    need: tuple[int, int, int], more: tuple[int, int, int]
) -> None:
    larger = tuple(size + grown for size, grown in zip(need, more, strict=True))
    for budget in (PHONE, BOARD):
        before, after = (
            ORDER.index(compare_with_budget(needs(*sizes), budget).status)
            for sizes in (need, larger)
        )
        assert after <= before


def test_positions_go_to_the_end_or_as_far_as_asked() -> None:
    inputs = small_memory()
    whole = positions_of(inputs, None)
    assert whole == positions_of(inputs, 1000) == positions_of(inputs, 5000)
    assert positions_of(inputs, 100) == Positions(100, 20, 100)
    assert positions_of(inputs, 7) == Positions(7, 7, 7)
    assert positions_of(inputs, 999) == Positions(999, 20, whole.rows)


def budget_for(prediction: Prediction, ratio: float) -> MemoryBudget:
    return MemoryBudget("r", 10**12, int(ratio * prediction.peak_bytes), 0, evicts=False)


def test_what_fits_needs_no_change() -> None:
    now = fit(small_memory(), "executorch", PHONE, [("--x", small_memory())])
    assert now.result.status == "fits"
    assert now.changes == ()
    assert now.prediction == fit(small_memory(), "executorch", PHONE).prediction


def test_changes_are_asked_for_only_where_they_are_needed() -> None:
    def never() -> Iterator[Variant]:
        yield from ()
        raise AssertionError("nobody should ask")

    assert fit(small_memory(), "onnx", PHONE, never()).changes == ()


def chunks_of(*sizes: int) -> list[Variant]:
    return [(f"--chunk {size}", small_memory(prefill_chunk=size)) for size in sizes]


def test_what_makes_it_fit_is_proposed_and_nothing_more() -> None:
    inputs = small_memory(prefill_chunk=1000)
    # Small enough that only the shortest chunks fit; what is a little too large is tight.
    budget = budget_for(fit(inputs, "onnx", PHONE).prediction, 0.97)
    found = fit(inputs, "onnx", budget, chunks_of(995, 990, 10, 5, 1000))
    assert found.result.status != "fits"
    # Nobody gives up more than it takes, or something for nothing.
    assert [(change.what, change.status == "fits") for change in found.changes] == [
        ("--chunk 10", True),
    ]
    first = found.changes[0]
    assert first.saved_bytes > 0 and first.saved_dirty_bytes > 0


def test_what_a_part_of_it_achieves_as_well_is_not_proposed() -> None:
    inputs = small_memory(prefill_chunk=1000)
    budget = budget_for(fit(inputs, "executorch", PHONE).prediction, 0.97)
    found = fit(inputs, "executorch", budget, chunks_of(10))
    # Not both, because a shorter chunk is enough.
    assert [(change.what, change.status) for change in found.changes] == [
        ("--chunk 10", "fits"),
    ]


def weights_of(*sizes_mb: int) -> list[Variant]:
    return [
        (f"--recipe {size}", small_memory((*TENSORS[:3], replace(FLOATS, size_bytes=size * MB))))
        for size in sizes_mb
    ]


def test_where_it_cannot_run_what_lets_it_run_is_proposed_too() -> None:
    ((_, inputs),) = weights_of(2000)
    found = fit(inputs, "onnx", PHONE, weights_of(500, 600, 1200, 1300, 1900))
    assert found.result.status == "will not fit"
    assert [(change.what, change.status) for change in found.changes] == [
        ("--recipe 600", "fits"),
        ("--recipe 1300", "tight"),
    ]


def test_context_is_given_up_last() -> None:
    inputs = small_memory(prefill_chunk=1000)
    budget = budget_for(fit(inputs, "onnx", PHONE).prediction, 0.97)
    shorter = replace(small_memory(prefill_chunk=10), context_length=inputs.context_length - 1)
    found = fit(inputs, "onnx", budget, [("--context 1", shorter), *chunks_of(8)])
    assert [change.what for change in found.changes] == ["--chunk 8", "--context 1"]
    assert found.changes[1].price.positions == 1


def test_where_nothing_is_enough_what_helps_most_comes_first() -> None:
    inputs = small_memory(prefill_chunk=1000)
    none = MemoryBudget("none", MB, MB, 0, evicts=False)
    found = fit(inputs, "onnx", none, chunks_of(500, 1000, 10, 100))
    assert [change.what for change in found.changes] == ["--chunk 10", "--chunk 100", "--chunk 500"]
    assert {change.status for change in found.changes} == {"will not fit"}


def test_every_change_may_come_with_a_packed_cache() -> None:
    inputs = small_memory(prefill_chunk=1000)
    none = MemoryBudget("none", MB, MB, 0, evicts=False)
    found = fit(inputs, "executorch", none, chunks_of(500))
    saved = {change.what: change.saved_dirty_bytes for change in found.changes}
    assert saved["--chunk 500 --packed-cache"] == saved["--chunk 500"] + saved["--packed-cache"]


def test_a_packed_cache_is_a_change_of_executorch_alone() -> None:
    tiny = MemoryBudget("tiny", 10 * MB, 10 * MB, 0, evicts=False)
    for backend, packed_cache, expected in (
        ("executorch", False, ["--packed-cache"]),
        ("executorch", True, []),
        ("onnx", False, []),
    ):
        found = fit(small_memory(), backend, tiny, packed_cache=packed_cache)
        assert found.result.status != "fits"
        assert [change.what for change in found.changes] == expected
    before = fit(small_memory(), "executorch", tiny)
    after = fit(small_memory(), "executorch", tiny, packed_cache=True)
    (change,) = before.changes
    assert change.saved_dirty_bytes == before.prediction.of("weights, packed")
    assert change.saved_bytes == before.prediction.peak_bytes - after.prediction.peak_bytes


def test_the_architecture_of_the_room_counts() -> None:
    arm = fit(small_memory(), "executorch", PHONE)
    x86 = fit(small_memory(), "executorch", replace(PHONE, architecture="x86_64"))
    assert arm.prediction.of("runtime code") != x86.prediction.of("runtime code")
