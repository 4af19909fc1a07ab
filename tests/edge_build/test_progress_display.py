"""What is shown while a build runs."""

import io
import re
import sys
from itertools import pairwise

import pytest
from rich.console import Console

from pocketlm.edge_build import progress_display
from pocketlm.edge_build.progress import (
    Event,
    Notice,
    StageAdvanced,
    StageFinished,
    StageReport,
    StagesPlanned,
    StageStarted,
)
from pocketlm.edge_build.progress_display import (
    BuildBars,
    BuildLines,
    shown_duration,
    shown_progress,
)

EVENTS: tuple[Event, ...] = (
    StagesPlanned(("checkpoint", "quantize", "onnx", "golden")),
    StageStarted("checkpoint"),
    StageFinished(StageReport("checkpoint", 0.1, 200_000_000, reused=False)),
    Notice("continuing an interrupted build: quantize done before"),
    StageFinished(StageReport("quantize", 9.0, 300_000_000, reused=True)),
    StageStarted("onnx"),
    StageAdvanced("onnx", 1_500_000_000, 2_000_000_000, "bytes", "layers.3.mlp.up_proj"),
    StageFinished(StageReport("onnx", 4.26, 500_000_000, reused=False)),
    StageStarted("golden"),
    StageAdvanced("golden", 3, 4, "steps", "code (none)"),
    StageFinished(StageReport("golden", 61.0, 400_000_000, reused=False)),
)


def test_without_a_terminal_each_stage_has_a_line_at_its_start_and_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with shown_progress() as shown:
        for event in EVENTS:
            shown.notify(event)
    captured = capsys.readouterr()
    lines = [re.sub(r"so far .*", "so far X", line) for line in captured.err.splitlines()]
    assert lines == [
        "checkpoint: started, stage 1 of 4",
        "checkpoint: done in 0.1 s, peak memory so far X",
        "continuing an interrupted build: quantize done before",
        "quantize: done by an earlier run",
        "onnx: started, stage 3 of 4",
        "onnx: done in 4.3 s, peak memory so far X",
        "golden: started, stage 4 of 4",
        "golden: done in 61.0 s, peak memory so far X",
    ]
    assert captured.out == ""
    assert [report.name for report in shown.reports] == ["checkpoint", "quantize", "onnx", "golden"]


def test_without_a_terminal_long_work_has_a_line_every_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_display.time, "monotonic", lambda: 100.0)
    lines = BuildLines()
    for event in EVENTS[:2]:
        lines(event)
    capsys.readouterr()
    shown_at = []
    for second in range(101, 161):
        # A stage that reports nothing at all.
        lines.tick(float(second))
        shown_at += [second] * capsys.readouterr().err.count("\n")
    assert all(later - earlier < 10 for earlier, later in pairwise([100, *shown_at, 160]))


def test_a_line_within_a_stage_says_where_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = BuildLines()
    monkeypatch.setattr(progress_display.time, "monotonic", lambda: 100.0)
    for event in EVENTS[:7]:
        lines(event)
    lines.tick(109.0)
    in_onnx = capsys.readouterr().err.splitlines()[-1]
    assert in_onnx == ("onnx: 0:09 so far, stage 3 of 4; 1.50 GB of 2.00 GB, layers.3.mlp.up_proj")
    for event in EVENTS[7:]:
        lines(event)
    capsys.readouterr()
    lines.tick(300.0)
    assert capsys.readouterr().err == "", "between stages there is nothing to tell"


def drawn_after_each_event(bars: BuildBars) -> list[str]:
    """Return what stands on the screen after each event."""
    drawn = []
    for event in EVENTS:
        bars(event)
        paper = Console(file=io.StringIO(), width=150)
        with paper.capture() as capture:
            paper.print(*bars.progress.get_renderables())
        drawn.append(capture.get())
    return drawn


def test_on_a_terminal_one_bar_counts_stages_and_one_the_work_of_the_stage() -> None:
    bars = BuildBars(Console(file=io.StringIO(), force_terminal=True, width=150))
    drawn = [text.splitlines() for text in drawn_after_each_event(bars)]
    counts = [re.search(r"\d of 4 stages", lines[0]) for lines in drawn]
    assert [match and match.group() for match in counts] == [
        f"{finished} of 4 stages" for finished in (0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 4)
    ]
    at_work = {lines[1].split()[0] for lines in drawn if lines[1:]}
    assert at_work == {"checkpoint", "onnx", "golden"}
    assert re.search(r"1\.50 GB of 2\.00 GB +0:\d\d:\d\d +layers\.3\.mlp\.up_proj", drawn[6][1])
    assert "3 of 4" in drawn[9][1] and "code (none)" in drawn[9][1]
    assert len(drawn[-1]) == 1, "no stage is at work"


def test_what_a_stage_works_on_commands_no_terminal() -> None:
    screen = io.StringIO()
    with (bars := BuildBars(Console(file=screen, force_terminal=True, width=150))).progress:
        bars(StageStarted("onnx"))
        bars(StageAdvanced("onnx", 1, 2, "steps", "\x1b[2Jlayers[red]"))
    assert "\x1b[2J" not in screen.getvalue() and "layers[red]" in screen.getvalue()


def test_a_notice_and_what_libraries_write_to_stderr_stand_on_lines_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=150)
    monkeypatch.setattr(progress_display, "make_console", lambda stderr: terminal)
    with shown_progress() as shown:
        shown.notify(StageStarted("onnx"))
        shown.notify(Notice("too little memory is free"))
        sys.stderr.write("a library's warning\n")
    lines = (
        re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).replace("\r", "\n").splitlines()
    )
    assert "too little memory is free" in lines and "a library's warning" in lines


def test_a_terminal_gets_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=150)
    monkeypatch.setattr(progress_display, "make_console", lambda stderr: terminal)
    with shown_progress() as shown:
        for event in EVENTS:
            shown.notify(event)
    assert "4 of 4 stages" in screen.getvalue()
    assert [report.reused for report in shown.reports] == [False, True, False, False]


@pytest.mark.parametrize(
    ("duration_s", "shown"), [(0.4, "0:00"), (65.0, "1:05"), (3725.0, "1:02:05"), (59.6, "1:00")]
)
def test_durations_are_minutes_and_seconds(duration_s: float, shown: str) -> None:
    assert shown_duration(duration_s) == shown
