"""Shows a build's events on stderr: bars on a terminal, lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event as ThreadEvent
from threading import Lock, Thread

from rich.console import Console
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
    """Show the events until the end of the block."""
    console = make_console(stderr=True)
    if not console.is_terminal:
        lines = BuildLines()
        with lines.ticking():
            yield _collecting(lines)
        return
    bars = BuildBars(console)
    with bars.progress:
        yield _collecting(bars)


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
        self.names: tuple[str, ...] = ()
        self.name = self.what = ""
        self._begun = self._printed = 0.0
        self._lock = Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._tell(event, time.monotonic())

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
        """Print how far the stage is, if nothing was printed for a while."""
        with self._lock:
            if not self.name or now - self._printed < _SILENCE_S:
                return
            self._printed = now
            line = f"{self.name}: {shown_duration(now - self._begun)} so far, {self._place}"
            say(f"{line}; {self.what}" if self.what else line, err=True)

    @property
    def _place(self) -> str:
        return f"stage {self.names.index(self.name) + 1} of {len(self.names)}"

    def _tell(self, event: Event, now: float) -> None:
        match event:
            case StagesPlanned(names):
                self.names = names
                return
            case StageStarted(name):
                self.name, self.what, self._begun = name, "", now
                line = f"{name}: started, {self._place}"
            case StageAdvanced():
                self.what = f"{shown_count(event)}, {event.what}"
                return
            case StageFinished(report) if report.reused:
                line = f"{report.name}: done by an earlier run"
            case StageFinished(report):
                self.name = ""
                peak = shown_size(peak_resident_bytes())
                line = f"{report.name}: done in {report.wall_s:.1f} s, peak memory so far {peak}"
            case Notice(text):
                line = text
        self._printed = now
        say(line, err=True)


class BuildBars:
    """Two bars: stages of the build, and below it what the stage at work counts of its own."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description:10}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[what]}"),
            console=console,
        )
        self._build = self.progress.add_task("checking", total=None, count="", what="")
        self._stage = self.progress.add_task("", start=False, visible=False, count="", what="")
        self._stages = 0

    def __call__(self, event: Event) -> None:
        match event:
            case StagesPlanned(names):
                self._stages = len(names)
                self.progress.update(self._build, description="build", total=self._stages)
                self._count_stages(finished=0)
            case StageStarted(name):
                # Without a total the bar pulses: not every stage counts its work.
                self.progress.reset(
                    self._stage, description=name, total=None, visible=True, count="", what=""
                )
            case StageAdvanced(_, done, total):
                count, what = shown_count(event), bar_text(event.what)
                self.progress.update(
                    self._stage, completed=done, total=total, count=count, what=what
                )
            case StageFinished():
                self.progress.update(self._stage, visible=False)
                self._count_stages(finished=1)
            case Notice(text):
                self.progress.console.print(text, highlight=False)

    def _count_stages(self, finished: int) -> None:
        self.progress.advance(self._build, finished)
        done = round(self.progress.tasks[self._build].completed)
        self.progress.update(self._build, count=f"{done} of {self._stages} stages")


def shown_count(event: StageAdvanced) -> str:
    """Return how much of its work a stage has done: "3 of 4", "1.50 GB of 2.00 GB"."""
    if event.unit == "bytes":
        return f"{shown_size(event.done)} of {shown_size(event.total)}"
    return f"{event.done} of {event.total}"


def shown_duration(duration_s: float) -> str:
    """Return minutes and seconds, "2:05"; hours where there are some, "1:02:05"."""
    minutes, seconds = divmod(round(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
