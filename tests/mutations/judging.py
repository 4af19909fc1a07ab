"""Runs a command on a changed input and says what is wrong with how it ended.

Right is: no traceback, one short line of printable text on an error, five seconds of processor
time at most, and every file as it was.
"""

import os
import resource
import signal
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from click.testing import CliRunner

from device_tests.errors import DeviceError
from edge_build.errors import BuildError
from models.errors import ModelError
from pocketlm import main
from runtime_py.errors import RunError

MOST_S = 5.0
# Room for the longest path, name and advice; a document that is printed whole is longer.
_LONGEST_LINE = 1100
_KNOWN = (ModelError, BuildError, RunError, DeviceError)


@dataclass(frozen=True)
class Failure:
    """What is wrong, in a word that failures are counted by, and in detail."""

    kind: str
    detail: str


class _TooSlowError(BaseException):
    """Raised in the middle of whatever takes too long."""


def run_command(arguments: tuple[str, ...]) -> Failure | None:
    """Run a command in this process; return what is wrong with its end."""
    found: list[Any] = []
    failure = _timed(lambda: found.append(CliRunner().invoke(main, arguments)))
    if failure or not found:
        return failure or Failure("slow", " ".join(arguments))
    result = found[0]
    if isinstance(result.exception, _TooSlowError):
        return Failure("slow", " ".join(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return Failure("traceback", _told(result.exception))
    return _judge_text(result.output, result.exit_code)


def run_function(function: Callable[[], object]) -> Failure | None:
    """Run a function that may raise our errors and no others."""

    def guarded() -> None:
        try:
            function()
        except _KNOWN as error:
            found.append(_judge_text(f"error: {error}\n", 2))

    found: list[Failure | None] = []
    return _timed(guarded) or next(iter(found), None)


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Return every path below a folder; the bytes of a file, None of anything else."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def compare(before: dict[str, bytes | None], after: dict[str, bytes | None]) -> Failure | None:
    """Return what a command lost, changed or left behind."""
    if lost := sorted(before.keys() - after.keys()):
        return Failure("input lost", ", ".join(lost))
    if left := sorted(after.keys() - before.keys()):
        return Failure("left behind", ", ".join(left))
    if changed := [path for path in before if before[path] != after[path]]:
        return Failure("input changed", ", ".join(changed))
    return None


def _judge_text(output: str, status: int) -> Failure | None:
    hidden = {c for c in output if unicodedata.category(c) in ("Cc", "Cf", "Cs")} - {"\n"}
    if hidden:
        return Failure("unescaped", f"{sorted(hidden)!r} in {output[:300]!r}")
    if status not in (0, 1, 2, 3):
        return Failure("status", f"{status}: {output[:300]!r}")
    told = output[output.find("error: ") :] if status >= 2 else ""
    if status >= 2 and "rror: " not in output:
        return Failure("no message", f"{status}: {output[:300]!r}")
    if told.startswith("error: ") and ("\n" in told.rstrip("\n") or len(told) > _LONGEST_LINE):
        return Failure("long message", f"{len(told)} characters: {told[:300]!r}")
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
        return Failure("traceback", _told(error))
    taken = _children_s() - before
    return Failure("slow", f"{taken:.1f} s in child processes") if taken > MOST_S else None


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


def _told(error: BaseException) -> str:
    """Return an error's kind, the place that raised it, and the beginning of its text."""
    place, traceback = "", error.__traceback__
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if os.sep + "tests" + os.sep not in file and "site-packages" not in file:
            place = f"{Path(file).parent.name}/{Path(file).name}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return f"{type(error).__name__} at {place}: {str(error)[:200]!r}"
