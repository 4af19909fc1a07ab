"""Shows a build's events on stderr: one bar on a terminal, lines elsewhere."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event as ThreadEvent
from threading import Lock, Thread

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from pocketlm.edge_build.byte_sizes import shown_size
from pocketlm.edge_build.progress import (
    Event,
    Notice,
    Notify,
    StageAdvanced,
    StageFinished,
    StageReport,
    StagesPlanned,
    StageStarted,
)
from pocketlm.edge_build.progress_clock import BuildClock
from pocketlm.edge_build.resident_memory import peak_resident_bytes
from pocketlm.runtime_py.terminal import bar_text, make_console, say

# Less than ten seconds, with room for a machine that is busy.
_SILENCE_S = 8.0


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
        with lines.ticking():
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
    """A line when a stage starts and when it ends, and meanwhile at least one every ten seconds."""

    def __init__(self) -> None:
        self.clock = BuildClock({})
        self.names: list[str] = []
        self.what = ""
        self._begun = self._told = 0.0
        self._lock = Lock()

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        with self._lock:
            _follow(self.clock, event, now)
            self._tell(event, now)

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Tell of long work during the block, whether it reports or not."""
        stop = ThreadEvent()

        def tick() -> None:
            while not stop.wait(1.0):
                self.tick(time.monotonic())

        thread = Thread(target=tick, name="progress lines", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def tick(self, now: float) -> None:
        """Tell how far the stage is, if nothing was told for a while."""
        with self._lock:
            if not self.clock.name or now - self._told < _SILENCE_S:
                return
            self._told = now
            spent = shown_duration(now - self._begun)
            left = shown_duration(self.clock.remaining_s(now))
            line = (
                f"{self.clock.name}: {spent} so far, build {self.clock.fraction(now):.0%} done, "
                f"about {left} left"
            )
            say(f"{line}; {self.what}" if self.what else line, err=True)

    def _tell(self, event: Event, now: float) -> None:
        match event:
            case StagesPlanned(expected_s):
                self.clock = BuildClock(expected_s)
                self.names = list(expected_s)
                return
            case StageStarted(name):
                self.what, self._begun = "", now
                place = f"{self.names.index(name) + 1} of {len(self.names)}"
                line = f"{name}: started, stage {place}"
            case StageAdvanced():
                self.what = shown_work(event)
                return
            case StageFinished(report) if report.reused:
                line = f"{report.name}: done by an earlier run"
            case StageFinished(report):
                peak = shown_size(peak_resident_bytes())
                line = f"{report.name}: done in {report.wall_s:.1f} s, peak memory so far {peak}"
            case Notice(text):
                line = text
        self._told = now
        say(line, err=True)


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
        _follow(self.clock, event, time.monotonic())
        match event:
            case StagesPlanned(expected_s):
                self.clock = BuildClock(expected_s)
            case StageStarted(name):
                self.update(self.bar, description=name, what="")
            case StageAdvanced():
                self.update(self.bar, what=bar_text(shown_work(event)))
            case Notice(text):
                self.console.print(text, highlight=False)


def _follow(clock: BuildClock, event: Event, now: float) -> None:
    """Have a clock note an event."""
    match event:
        case StageStarted(name):
            clock.start(name, now)
        case StageAdvanced(_, done, total):
            clock.advance(done, total)
        case StageFinished(report) if report.reused:
            clock.take_over(report.name)
        case StageFinished():
            clock.finish(now)


def shown_work(event: StageAdvanced) -> str:
    """Return what a stage is at, with its bytes where it counts them."""
    if event.unit != "bytes":
        return event.what
    return f"{shown_size(event.done)} of {shown_size(event.total)}, {event.what}"


def shown_duration(duration_s: float) -> str:
    """Return minutes and seconds, "2:05"; hours where there are some, "1:02:05"."""
    minutes, seconds = divmod(round(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
