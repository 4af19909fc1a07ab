"""Two reports side by side."""

import io
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from pocketlm.device_tests.device.facts import EMULATED, Provenance
from pocketlm.device_tests.memory.values import PartBytes
from pocketlm.device_tests.profiling.document import Report
from pocketlm.device_tests.report.comparison import Comparison, compare
from pocketlm.device_tests.report.comparison_terminal import print_comparison
from tests.device_tests.report.sample_reports import (
    MB,
    PHONE,
    RUN,
    failed_report,
    hostile_report,
    killed_report,
    sample_report,
)


def with_parts(report: Report, *parts: PartBytes) -> Report:
    return replace(report, phases=(*report.phases[:-1], replace(report.phases[-1], parts=parts)))


def packed(report: Report) -> Report:
    """Return the report as it would be with packed weights in a file."""
    last = report.phases[-1]
    kept = tuple(part for part in last.parts if part.part != "packed weights")
    moved = PartBytes("packed weights", "clean", 388 * MB)
    return replace(
        with_parts(report, *kept, moved), run=replace(RUN, packed_cache=True), load_s=0.4
    )


def printed(comparison: Comparison) -> str:
    screen = io.StringIO()
    print_comparison(comparison, Console(file=screen, width=80))
    assert max(map(len, screen.getvalue().splitlines())) <= 80
    return screen.getvalue()


def test_a_run_against_itself_changes_nothing() -> None:
    found = compare(sample_report(), sample_report())
    assert found.facts == () and found.notes == ()
    assert {change.difference_bytes for change in (*found.sizes, *found.parts)} == {0}
    assert {time.difference_ratio for time in found.times} == {0.0}
    assert "same bundle, device and run" in printed(found)


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_difference_is_after_less_before(before: int, after: int) -> None:
    reports = [
        with_parts(sample_report(), PartBytes("KV cache", "dirty", size))
        for size in (before, after)
    ]
    (part,) = compare(*reports).parts
    assert part.difference_bytes == after - before
    if before:
        assert part.difference_ratio == (after - before) / before
    else:
        assert part.difference_ratio is None


def test_a_part_that_turns_from_dirty_to_clean_is_two_parts() -> None:
    found = compare(sample_report(), packed(sample_report()))
    weights = [part for part in found.parts if part.name == "packed weights"]
    assert [(w.kind, w.before_bytes, w.after_bytes, w.difference_bytes) for w in weights] == [
        ("dirty", round(388.2 * MB), None, None),
        ("clean", None, 388 * MB, None),
    ]


def test_what_was_run_differently_stands_first() -> None:
    text = printed(compare(sample_report(), packed(sample_report())))
    assert re.search(r"run: packed weights +made while loading +mapped from a file", text)
    assert text.index("run: packed weights") < text.index("peak")


def test_what_no_two_runs_share_is_no_difference() -> None:
    other = replace(
        sample_report(),
        created="2026-12-01T00:00:00+00:00",
        device=replace(PHONE, available_bytes=1, free_bytes=2, free_swap_bytes=3),
    )
    assert compare(sample_report(), other).facts == ()


def test_times_are_compared_within_a_provenance() -> None:
    found = compare(sample_report(), packed(sample_report()))
    load = found.times[0]
    assert (load.name, load.unit, load.before, load.after) == ("load", "s", 2.86, 0.4)
    assert load.difference_ratio == pytest.approx(0.4 / 2.86 - 1)
    assert {time.name for time in found.times} == {"load", "first token", "prefill", "decode"}


@pytest.mark.parametrize("provenance", EMULATED)
def test_times_of_an_emulator_are_never_shown(provenance: Provenance) -> None:
    emulated = sample_report(provenance)
    for pair in ((emulated, emulated), (sample_report(), emulated), (emulated, sample_report())):
        found = compare(*pair)
        assert found.times == ()
        assert "times are emulated, not shown" in found.notes
        text = printed(found)
        assert "tokens/s" not in text
        assert not re.search(r"\d\s?(ms|s|seconds)\b", text)


def test_a_phone_is_not_held_against_a_computer() -> None:
    found = compare(sample_report("host"), sample_report("real"))
    assert found.times == ()
    assert any("before is of provenance host, after of real" in note for note in found.notes)


def test_what_only_one_device_can_tell_is_left_out() -> None:
    """Android's own account is of a phone alone; a report of this computer has none."""
    phone, host = sample_report(), replace(sample_report(), android=None)
    for before, after in ((phone, host), (host, phone)):
        found = compare(before, after)
        assert found.facts == () and found.phase == "decoded"
        printed(found)


def test_parts_are_compared_at_the_moment_that_the_reports_tell() -> None:
    """Golden answers are replayed behind the end of the measured run."""
    whole = sample_report()
    replay = replace(whole.phases[-1], name="answered", end_s=40.0, resident_bytes=900 * MB)
    answered = replace(whole, phases=(*whole.phases, replay))
    found = compare(answered, answered)
    assert found.phase == "decoded"
    assert found.sizes[1].before_bytes == whole.phases[-1].resident_bytes


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(4)), st.permutations(range(4)), st.integers(1, 4))
def test_the_order_in_which_phases_stand_changes_nothing(
    first: list[int], second: list[int], reached: int
) -> None:
    whole = sample_report(samples=2)
    before = replace(whole, phases=tuple(whole.phases[i] for i in first))
    after = replace(whole, phases=tuple(whole.phases[i] for i in second if i < reached))
    assert compare(before, after).phase == whole.phases[reached - 1].name


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_reports_without_optional_parts_are_compared(data: st.DataObject) -> None:
    """Each may come from another device, or from an earlier pocketlm."""
    texts = []
    for report in (sample_report(samples=2), replace(killed_report(), samples=())):
        document = json.loads(report.to_json())
        for name in data.draw(st.sets(st.sampled_from(["android", "warnings", "schema_version"]))):
            del document[name]
        for name in data.draw(st.sets(st.sampled_from(["android", "ledger", "answers", "load_s"]))):
            document[name] = None
        for name in data.draw(st.sets(st.sampled_from(["samples", "steps", "phases"]))):
            document[name] = []
        texts.append(json.dumps(document))
    printed(compare(*(Report.from_json(text, "r.json") for text in texts)))


def test_a_run_that_was_killed_is_compared_as_far_as_it_came() -> None:
    found = compare(sample_report(), killed_report())
    assert found.phase == "started"
    assert "after: oom killed" in found.notes[0]
    assert found.sizes[0].name == "peak"


def test_a_run_that_never_began_has_nothing_to_compare() -> None:
    found = compare(failed_report(), sample_report())
    assert (found.phase, found.parts) == (None, ())
    assert found.sizes[0].before_bytes is None
    assert found.sizes[0].difference_bytes is None
    assert "parts of memory are not compared" in printed(found)


def test_a_verdict_that_spoils_figures_is_noted() -> None:
    found = compare(
        replace(sample_report(), verdict="under_pressure"),
        replace(sample_report(), verdict="throttled"),
    )
    assert found.notes == (
        "before: under pressure; its sizes are too small",
        "after: throttled; its times are too long",
    )


def test_json_holds_all_values() -> None:
    found = compare(sample_report(), packed(hostile_report()))
    document = json.loads(found.to_json())
    assert document["schema_version"] == 1
    assert document["phase"] == found.phase
    assert document["sizes"][0]["difference_bytes"] == found.sizes[0].difference_bytes
    assert len(document["parts"]) == len(found.parts)
    printed(found)
