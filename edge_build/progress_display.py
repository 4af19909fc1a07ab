"""Shows a build's events on stderr: one bar on a terminal, one line per event elsewhere."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from edge_build.byte_sizes import shown_size
from edge_build.progress import (
    Event,
    Notice,
    Notify,
    StageAdvanced,
    StageFinished,
    StageReport,
    StagesPlanned,
    StageStarted,
)
from edge_build.progress_clock import BuildClock
from edge_build.resident_memory import peak_resident_bytes
from runtime_py.terminal import bar_text, make_console, say


@dataclass
class ShownBuild:
    """What was shown: where to tell events, and the stages that finished."""

    notify: Notify
    reports: list[StageReport] = field(default_factory=list)


@contextmanager
def shown_progress() -> Iterator[ShownBuild]:
    """Show what is told until the end of the block."""
    console = make_console(stderr=True)
    if not console.is_terminal:
        lines = BuildLines()
        yield _collecting(lines)
        return
    with BuildBar(console) as bar:
        yield _collecting(bar.tell)


def _collecting(show: Notify) -> ShownBuild:
    def tell(event: Event) -> None:
        if isinstance(event, StageFinished):
            shown.reports.append(event.report)
        show(event)

    shown = ShownBuild(tell)
    return shown


class BuildLines:
    """One line when a stage starts and when it ends."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, event: Event) -> None:
        match event:
            case StagesPlanned(expected_s):
                self.names = list(expected_s)
            case StageStarted(name):
                place = f"{self.names.index(name) + 1} of {len(self.names)}"
                say(f"{name}: started, stage {place}", err=True)
            case StageFinished(report) if report.reused:
                say(f"{report.name}: done by an earlier run", err=True)
            case StageFinished(report):
                peak = shown_size(peak_resident_bytes())
                say(
                    f"{report.name}: done in {report.wall_s:.1f} s, peak memory so far {peak}",
                    err=True,
                )
            case Notice(text):
                say(text, err=True)


class BuildBar(Progress):
    """One bar over the whole build, moved by the clock between events."""

    def __init__(self, console: Console) -> None:
        self.clock = BuildClock({})  # the base class draws at once
        columns = (
            TextColumn("{task.description:10}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[what]}"),
        )
        super().__init__(*columns, console=console)
        self.bar = self.add_task("checking", total=1.0, left="", what="")

    def get_renderables(self) -> Iterable[RenderableType]:
        now = time.monotonic()
        if self.clock.expected_s:
            left = f"about {shown_duration(self.clock.remaining_s(now))} left"
            self.update(self.bar, completed=self.clock.fraction(now), left=left)
        yield from super().get_renderables()

    def tell(self, event: Event) -> None:
        now = time.monotonic()
        match event:
            case StagesPlanned(expected_s):
                self.clock = BuildClock(expected_s)
            case StageStarted(name):
                self.clock.start(name, now)
                self.update(self.bar, description=name, what="")
            case StageAdvanced(_, done, total, unit, what):
                self.clock.advance(done, total)
                if unit == "bytes":
                    what = f"{shown_size(done)} of {shown_size(total)}, {what}"
                self.update(self.bar, what=bar_text(what))
            case StageFinished(report) if report.reused:
                self.clock.take_over(report.name)
            case StageFinished():
                self.clock.finish(now)
            case Notice(text):
                self.console.print(text, highlight=False)


def shown_duration(duration_s: float) -> str:
    """Return minutes and seconds, "2:05"; hours where there are some, "1:02:05"."""
    minutes, seconds = divmod(round(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
