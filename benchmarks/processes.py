"""Runs one process to its end and says what it cost; sees to it that the machine is idle."""

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.machine import Quietness

ROOT = Path(__file__).parents[1]
_BETWEEN_LOOKS_S = 4
_LAST_LINES = 15


class SuiteError(Exception):
    """The benchmark cannot go on; the message says what to do."""


@dataclass(frozen=True)
class Finished:
    """A process that ended well.

    Attributes:
        peak_bytes: highest resident size of the process or of its largest descendant.
    """

    stdout: str
    wall_s: float
    peak_bytes: int
    quietness: Quietness

    def figures(self) -> Mapping[str, Any]:
        """Return the JSON document in the last line of stdout."""
        document: Mapping[str, Any] = json.loads(self.stdout.splitlines()[-1])
        return document


@dataclass(frozen=True)
class Guard:
    """How strictly an idle machine is asked for.

    Attributes:
        force: measure on a busy machine too.
        idle_timeout_s: how long to wait for an idle one.
        lock_file: held exclusively while a process runs, so that other jobs that hold it shared
            wait for each other; None takes no lock.
    """

    force: bool = False
    idle_timeout_s: float = 60
    lock_file: Path | None = None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until the machine is idle, and keep it so as far as the lock file can.

        Raises:
            SuiteError: it does not become so.
        """
        deadline = time.monotonic() + self.idle_timeout_s
        while True:
            with self._locked():
                seen = Quietness(0, 0) if self.force else machine.sample_quietness()
                if not seen.is_busy:
                    yield
                    return
            # Not inside the lock: what keeps the machine busy may be waiting for it.
            if time.monotonic() > deadline:
                raise _busy(seen)
            time.sleep(_BETWEEN_LOOKS_S)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self.lock_file is None:
            yield
            return
        with self.lock_file.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def run(command: Sequence[str], guard: Guard) -> Finished:
    """Run a command from the repository's root on an idle machine.

    The caller's OMP_NUM_THREADS is not handed down: each system has its own way to be told.

    Raises:
        SuiteError: it fails, with the end of what it said; or the machine is busy.
    """
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as error:
        with guard.alone():
            before, start = machine.processor_time(), time.monotonic()
            process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=error, env=environment)
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                raise
            wall_s = time.monotonic() - start
            after = machine.processor_time()
        # Popen must not wait for what wait4 has reaped.
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        error.seek(0)
        if process.returncode != 0:
            last = (out.read() + error.read()).splitlines()[-_LAST_LINES:]
            raise SuiteError(
                f"{' '.join(command)}: exit status {process.returncode}\n" + "\n".join(last)
            )
        return Finished(
            stdout=out.read(),
            wall_s=wall_s,
            peak_bytes=usage.ru_maxrss * 1024,
            quietness=machine.quietness(before, after, usage.ru_utime + usage.ru_stime, wall_s),
        )


def say(message: str) -> None:
    """Print a line of progress."""
    print(message, file=sys.stderr, flush=True)


def _busy(seen: Quietness) -> SuiteError:
    busiest = ", ".join(machine.busiest_processes()) or "none of this machine's"
    return SuiteError(
        f"the machine is busy: other work takes {seen.foreign_share:.0%} of its processor time and "
        f"its host {seen.stolen_share:.0%} (limit {machine.BUSY_SHARE:.0%}); busiest processes: "
        f"{busiest}. Stop them, or pass --force, which marks the result"
    )
