"""A runner's lines as values, whole, cut, or not a runner's at all."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketlm.device_tests.memory.events import (
    Call,
    Mapping,
    PhaseMark,
    Region,
    RunEvents,
    Watch,
    read_events,
)

MAPPING = {
    "path": "/data/model.pte",
    "resident_bytes": 8192,
    "anonymous_bytes": 4096,
    "dirty_bytes": 4096,
    "swap_bytes": 0,
}
REGION = {"part": "kv-ring", "bytes": 10000, "resident_bytes": 4096, "swap_bytes": 12288}
PHASE = {
    "event": "phase",
    "phase": "prefilled",
    "clock_s": 102.5,
    "peak_bytes": 20480,
    "peak_is_of_phase": True,
    "regions": [REGION],
    "regions_are_counted": True,
    "mappings": [
        MAPPING,
        MAPPING | {"path": "[heap]", "anonymous_bytes": 8192, "swap_bytes": 4096},
    ],
}
CALL = {
    "event": "run",
    "tokens": 3,
    "position": 3,
    "greedy_id": 17,
    "clock_s": 101.25,
    "wall_s": 0.5,
}
KEPT = CALL | {"tokens": 1, "position": 4, "finite": True, "mean": -0.5, "std": 2.0}
LINES: list[dict[str, Any]] = [
    {"event": "start", "backend": "onnx", "clock_s": 100.0},
    {"event": "runtime", "name": "onnxruntime", "version": "1.31.1", "kernels": "mlas"},
    {"event": "loaded", "clock_s": 100.0, "wall_s": 0.75},
    PHASE,
    CALL,
    KEPT,
    {"event": "end", "clock_s": 103.0},
]
TEXT = "".join(json.dumps(line) + "\n" for line in LINES)
NOTHING = RunEvents(0.0, None, "", "", "", (), (), "", False)


def test_a_whole_run_is_read() -> None:
    found = read_events(TEXT)
    assert (found.start_s, found.load_s, found.ended, found.error) == (100.0, 0.75, True, "")
    assert (found.runtime, found.runtime_version, found.kernels) == (
        "onnxruntime",
        "1.31.1",
        "mlas",
    )
    assert found.calls == (
        Call(101.25, 0.5, 3, 3, 17, False, None, None),
        Call(101.25, 0.5, 1, 4, 17, True, -0.5, 2.0),
    )
    assert found.phases == (
        PhaseMark(
            phase="prefilled",
            clock_s=102.5,
            peak_bytes=20480,
            peak_is_of_phase=True,
            regions_are_counted=True,
            regions=(Region("kv-ring", 10000, 4096, 12288),),
            mappings=(
                Mapping("/data/model.pte", 8192, 4096, 4096, 0),
                Mapping("[heap]", 8192, 8192, 4096, 4096),
            ),
        ),
    )


def test_a_phase_adds_up_its_mappings() -> None:
    (phase,) = read_events(TEXT).phases
    assert (phase.resident_bytes, phase.anonymous_bytes, phase.swap_bytes) == (16384, 12288, 4096)
    assert [mapping.file_bytes for mapping in phase.mappings] == [4096, 0]


def test_a_row_that_is_not_finite_is_kept_without_its_spread() -> None:
    (call,) = read_events(json.dumps(CALL | {"finite": False})).calls
    assert (call.is_kept, call.mean, call.std) == (True, None, None)


def test_an_error_is_told_and_is_no_end() -> None:
    found = read_events('{"event":"error","reason":"manifest.json: no such file"}\n')
    assert (found.error, found.ended) == ("manifest.json: no such file", False)


def test_the_end_of_a_phase_is_found_while_the_runner_lives() -> None:
    watch = Watch("decoded")
    lines = [
        {"event": "start", "pid": 4321, "clock_s": 1.0},
        {"event": "phase", "phase": "prefilled"},
        {"event": "phase", "phase": "decoded"},
        {"event": "end"},
    ]
    assert [watch.pid_at_end(json.dumps(line)) for line in lines] == [None, None, 4321, None]


@pytest.mark.parametrize("pid", [None, True, "1; reboot", 0, -1, 1.5])
def test_what_is_no_process_is_not_asked_for(pid: object) -> None:
    watch = Watch("decoded")
    watch.pid_at_end(json.dumps({"event": "start", "pid": pid}))
    assert watch.pid_at_end('{"event": "phase", "phase": "decoded"}') is None


def test_calls_after_the_first_kept_row_are_not_measured() -> None:
    lines = [CALL, CALL | {"tokens": 1}, KEPT, CALL | {"tokens": 1}, KEPT]
    found = read_events("\n".join(map(json.dumps, lines)))
    assert len(found.calls) == 5
    assert [call.tokens for call in found.measured_calls] == [3, 1]


def test_a_text_that_was_cut_anywhere_gives_its_whole_lines() -> None:
    whole = read_events(TEXT)
    for length in range(len(TEXT)):
        cut = TEXT[:length]
        found = read_events(cut)
        # A line counts from its last brace on, whether its newline came through or not.
        done = sum(cut.startswith(TEXT[: _end_of(i)]) for i in range(len(LINES)))
        assert found.phases == whole.phases[: done - 3 if done > 3 else 0]
        assert found.calls == whole.calls[: max(done - 4, 0)]
        assert found.ended == (done == len(LINES))


def _end_of(line: int) -> int:
    return sum(len(json.dumps(each)) + 1 for each in LINES[: line + 1]) - 1


@pytest.mark.parametrize(
    "line",
    [
        "",
        "WARNING: linker: unused DT entry",
        "{",
        "[1, 2]",
        "null",
        '"phase"',
        "[" * 100_000,
        "9" * 10_000,
        '{"event": 7}',
        '{"event": "start", "event": "end"}',
        '{"event": "start", "clock_s": "soon"}',
        '{"event": "start", "clock_s": Infinity}',
        '{"event": "start", "clock_s": 1e999}',
        '{"event": "loaded", "wall_s": NaN}',
        '{"event": "loaded", "wall_s": -1.0}',
        '{"event": "phase"}',
    ],
)
def test_foreign_and_broken_lines_say_nothing(line: str) -> None:
    assert read_events(line) == NOTHING
    # And they take nothing away from the lines around them.
    assert read_events(f"{line}\n{TEXT}{line}\n") == read_events(TEXT)


WRONG: tuple[Any, ...] = ("12", None, [], {}, True, 0.5, -1, 2**63, 10**400, "x" * 1000)


@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize("field", ["clock_s", "wall_s", "tokens", "position", "greedy_id"])
def test_a_call_has_numbers_or_is_passed_over(field: str, value: Any) -> None:
    calls = read_events(json.dumps(CALL | {field: value})).calls
    if field.endswith("_s") and value == 0.5:
        assert [getattr(call, field) for call in calls] == [0.5]
    else:
        assert calls == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"peak_bytes": "20480"},
        {"peak_bytes": -1},
        {"peak_bytes": 1.5},
        {"clock_s": None},
        {"peak_is_of_phase": 1},
        {"phase": 3},
        {"regions": None},
        {"regions": [7]},
        {"regions": [REGION | {"resident_bytes": "4096"}]},
        {"regions": [REGION | {"resident_bytes": 2**64}]},
        {"mappings": [{"path": "x"}]},
        {"mappings": [MAPPING | {"resident_bytes": -4096}]},
        # More of it anonymous than there is of it.
        {"mappings": [MAPPING | {"anonymous_bytes": 12288}]},
    ],
    ids=lambda wrong: json.dumps(wrong)[:40],
)
def test_a_phase_that_cannot_be_is_passed_over(wrong: dict[str, Any]) -> None:
    found = read_events(json.dumps(PHASE | wrong) + "\n" + TEXT)
    assert found.phases == read_events(TEXT).phases


@pytest.mark.parametrize("missing", [name for name in PHASE if name != "event"])
def test_a_phase_that_lacks_something_is_passed_over(missing: str) -> None:
    line = {name: value for name, value in PHASE.items() if name != missing}
    assert read_events(json.dumps(line)).phases == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(
    line=st.sampled_from(LINES),
    field=st.sampled_from(sorted({name for line in LINES for name in line})),
    value=JSON,
)
def test_nothing_that_a_line_may_hold_raises(line: dict[str, Any], field: str, value: Any) -> None:
    found = read_events(json.dumps(line | {field: value}))
    for call in found.calls:
        assert type(call.tokens) is int and type(call.wall_s) is float
    for phase in found.phases:
        assert phase.resident_bytes >= phase.anonymous_bytes >= 0


@given(st.text())
def test_no_text_raises(text: str) -> None:
    assert isinstance(read_events(text), RunEvents)
