"""Runs a command on a changed input and says what is wrong with how it ended.

Right is: no traceback, one short line of printable text on an error, five seconds at most, and
every file as it was. The seconds are the processor's, of the command and its children: what the
clock says is as much about the machine's other work.
"""

import os
import resource
import shutil
import signal
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from click.testing import CliRunner

from pocketlm import main
from pocketlm.device_tests.errors import DeviceError
from pocketlm.edge_build.errors import BuildError
from pocketlm.models.errors import ModelError
from pocketlm.runtime_py.errors import RunError

MOST_S = 5.0
# Room for the longest path, name and advice; a document that is printed whole is longer.
_LONGEST_LINE = 1100
# onnxruntime keeps the name of its session there.
_FOREIGN = ".ses"
# Coarser than any clock of a file system of Linux.
_CLOCK_NS = 20_000_000
_INTERRUPTED = 130
_KNOWN = (ModelError, BuildError, RunError, DeviceError)


@dataclass(frozen=True)
class Failure:
    """What is wrong, in a word that failures are counted by, and in detail."""

    kind: str
    detail: str


class _TooSlowError(BaseException):
    """Raised in the middle of whatever takes too long."""


def run_command(arguments: tuple[str, ...], makes: Path | None = None) -> Failure | None:
    """Run a command in this process; return what is wrong with its end.

    Args:
        makes: what the command makes when all is well; it is removed then.
    """
    found: list[Any] = []
    failure = _timed(lambda: found.append(CliRunner().invoke(main, arguments)))
    if failure or not found:
        return failure or Failure("slow", " ".join(arguments))
    result = found[0]
    if result.exit_code == _INTERRUPTED:
        # The command has caught what was meant for the whole run.
        raise KeyboardInterrupt
    if isinstance(result.exception, _TooSlowError):
        return Failure("slow", " ".join(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return Failure("traceback", _shown(result.exception))
    # A job that failed is collected too; one may have left nothing.
    is_made = result.exit_code == 0 or f"files are in {makes}" in result.output
    if makes is not None and is_made:
        shutil.rmtree(makes, ignore_errors=True)
    return _check_text(result.output, result.exit_code)


def run_function(function: Callable[[], object]) -> Failure | None:
    """Run a function that may raise our errors and no others."""

    def guarded() -> None:
        try:
            function()
        except _KNOWN as error:
            found.append(_check_text(f"error: {error}\n", 2))

    found: list[Failure | None] = []
    return _timed(guarded) or next(iter(found), None)


@dataclass(frozen=True)
class SeenFile:
    """A path as it was seen.

    Attributes:
        stamp: what no write leaves as it was: inode, size, and when its bytes and its entry
            changed. Empty where the file was written so lately that the clock of the file system
            may not tell the next write from it.
        data: the bytes of a file, None of anything else.
    """

    stamp: tuple[int, ...]
    data: bytes | None


Snapshot = Mapping[str, SeenFile]


def snapshot(folder: Path, seen: Snapshot | None = None) -> Snapshot:
    """Return every path below a folder.

    Args:
        seen: an earlier snapshot; only files with another stamp are read again.
    """
    return dict(_walk(folder, "", seen or {}))


def _walk(folder: Path, above: str, seen: Snapshot) -> Iterator[tuple[str, SeenFile]]:
    with os.scandir(folder / above) as entries:
        for entry in entries:
            name, status = f"{above}{entry.name}", entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                yield name, SeenFile((), None)
                yield from _walk(folder, f"{name}/", seen)
                continue
            changed_ns = max(status.st_mtime_ns, status.st_ctime_ns)
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if name in seen and seen[name].stamp == stamp:
                yield name, seen[name]
            else:
                is_young = changed_ns > time.time_ns() - _CLOCK_NS
                data = Path(entry.path).read_bytes() if entry.is_file() else None
                yield name, SeenFile(() if is_young else stamp, data)


def compare(before: Snapshot, after: Snapshot) -> Failure | None:
    """Return what a command lost, changed or left behind."""
    if lost := sorted(before.keys() - after.keys()):
        return Failure("input lost", ", ".join(lost))
    left = sorted(path for path in after.keys() - before.keys() if Path(path).name != _FOREIGN)
    if left:
        return Failure("left behind", ", ".join(left))
    changed = [path for path in before if before[path].data != after[path].data]
    return Failure("input changed", ", ".join(changed)) if changed else None


def _check_text(output: str, status: int) -> Failure | None:
    hidden = {c for c in output if unicodedata.category(c) in ("Cc", "Cf", "Cs")} - {"\n"}
    if hidden:
        return Failure("unescaped", f"{sorted(hidden)!r} in {output[:300]!r}")
    if status not in (0, 1, 2, 3):
        return Failure("status", f"{status}: {output[:300]!r}")
    message = output[output.find("error: ") :] if status >= 2 else ""
    # How a job ended stands in a line of its own.
    if status >= 2 and "rror: " not in output and not (status == 3 and "\njob " in output):
        return Failure("no message", f"{status}: {output[:300]!r}")
    if message.startswith("error: ") and (
        "\n" in message.rstrip("\n") or len(message) > _LONGEST_LINE
    ):
        return Failure("long message", f"{len(message)} characters: {message[:300]!r}")
    return None


def _timed(work: Callable[[], object]) -> Failure | None:
    """Do the work; return a failure if it or its children take too much processor time."""
    before = _children_s()
    try:
        with _time_limit():
            work()
    except _TooSlowError:
        return Failure("slow", "stopped")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of a library in Rust is no Exception
        return Failure("traceback", _shown(error))
    return too_long(_children_s() - before)


def too_long(children_s: float) -> Failure | None:
    """Return a failure if child processes took too much processor time."""
    message = f"{children_s:.1f} s in child processes"
    return Failure("slow", message) if children_s > MOST_S else None


@contextmanager
def _time_limit() -> Iterator[None]:
    # Processor time: other work on the machine is no fault of the input.
    def stop(number: int, frame: FrameType | None) -> None:
        raise _TooSlowError

    handler = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, MOST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _shown(error: BaseException) -> str:
    """Return an error's kind, the place that raised it, and the beginning of its text."""
    place, traceback = "", error.__traceback__
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if os.sep + "tests" + os.sep not in file and "site-packages" not in file:
            place = f"{Path(file).parent.name}/{Path(file).name}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return f"{type(error).__name__} at {place}: {str(error)[:200]!r}"
