"""Watches a job until its end, through lost connections, and brings back what it left."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pocketlm.device_tests.device.retry import retry
from pocketlm.device_tests.device.shell import check, quote
from pocketlm.device_tests.device.system_counters import counters_command
from pocketlm.device_tests.device.target import LostDeviceError, RefusedError, Target
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.job.outcome import Ending, outcome_of
from pocketlm.device_tests.job.script import (
    AFTER,
    BEFORE,
    ERRORS,
    OUTPUT,
    SAMPLES,
    kill_function,
    kill_runner_command,
    remove_command,
)
from pocketlm.device_tests.job.state import JobState, ask_state
from pocketlm.device_tests.job.values import JobRecord, JobResult
from pocketlm.runtime_py.terminal import printable_line

# Each question takes some of the device's time; the first ones come sooner, for jobs that are over
# at once.
POLL_S = 2.0
_FIRST_POLL_S = 0.1
_ANSWER_S = 10.0
_BEGIN_S = 20.0  # in which a job that was started must have written down its process
# The device stops a job that is late by itself; only if it does not, it is stopped from here.
_LATE_S = 30.0

OnOutput = Callable[[str], None]  # one line of the runner's output


@dataclass(frozen=True)
class JobWatcher:
    """A job that was started, and who waits for it."""

    target: Target
    record: JobRecord
    folder: PurePosixPath
    out_folder: Path
    on_output: OnOutput
    reconnect_s: float

    def until_end(self) -> JobResult:
        """Wait for the job's end and bring back what it left.

        Whoever stops waiting stops the job; what a job left that has ended stays until it is here.
        """
        nonce = self.record.nonce
        try:
            try:
                state, stopped = self._wait()
            except LostDeviceError:
                raise
            except BaseException:
                abandon(self.target, self.folder)
                raise
            return self._result(state, stopped)
        except LostDeviceError as error:
            return self._lost(
                f"{error}; job {nonce} goes on there: "
                f"pocketlm jobs collect {nonce} --on {self.target.name}"
            )
        except RefusedError as error:
            return JobResult(nonce, error.reason, str(error))

    def _wait(self) -> tuple[JobState, bool]:
        """Return the first state that is final, and whether the runner was stopped from here."""
        start, wait_s, read, cut, stopped = time.monotonic(), _FIRST_POLL_S, 0, "", False
        while True:
            state = self._ask(read)
            *lines, cut = (cut + state.output).split("\n")
            for line in lines:
                self.on_output(line)
            # What has already been written is shown before the end.
            if self._is_final(state) and state.output_end == read:
                return state, stopped
            waited_s = time.monotonic() - start
            if not state.begun and waited_s > _BEGIN_S:
                raise DeviceError(
                    f"{self.target.name}: the job did not begin within {_BEGIN_S:.0f} s; it needs "
                    "sh and nohup there"
                )
            if waited_s > self.record.timeout_s + _LATE_S:
                self._kill_runner()
                stopped = True
            if state.output_end == read:
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, POLL_S)
            read = state.output_end

    def _ask(self, read: int) -> JobState:
        return retry(
            lambda: ask_state(self.target, self.folder, read, timeout_s=_ANSWER_S),
            self.reconnect_s,
        )

    def _is_final(self, state: JobState) -> bool:
        dead = state.begun and not state.running
        return not state.there or state.ended is not None or dead or self._has_restarted(state)

    def _has_restarted(self, state: JobState) -> bool:
        return state.boot_id != self.record.boot_id

    def _kill_runner(self) -> None:
        command = kill_runner_command(self.folder)
        retry(lambda: self.target.run(command), self.reconnect_s)

    def _result(self, state: JobState, stopped: bool) -> JobResult:
        if not state.there:
            return self._lost(f"{self.target.name}: the job's folder was removed while it ran")
        if state.ended is None and self._has_restarted(state):
            abandon(self.target, self.folder)
            return self._lost(
                f"{self.target.name}: it restarted during the run; if memory or its battery was "
                "short, change that and run again"
            )
        if state.ended is None:
            # The job's shell is dead, its runner need not be.
            self._kill_runner()
        nonce, status, late = state.ended or (self.record.nonce, None, False)
        if nonce != self.record.nonce:
            raise DeviceError(
                f"{self.target.name}: job {self.record.nonce} holds the end of another, "
                f"{printable_line(nonce)}; remove it: "
                f"pocketlm jobs remove {self.record.nonce} --on {self.target.name}"
            )
        files = retry(self._fetch, self.reconnect_s)
        after = _text(files, AFTER)
        if status is None:
            # The job's shell cannot say it any more.
            after = retry(lambda: self.target.run(counters_command()), self.reconnect_s).output
        outcome = outcome_of(
            Ending(
                status,
                late or stopped,
                self.record.timeout_s,
                _text(files, OUTPUT),
                _text(files, ERRORS),
                _text(files, BEFORE),
                after,
                _text(files, SAMPLES),
                state.free_bytes,
            )
        )
        abandon(self.target, self.folder)
        return JobResult(
            nonce,
            outcome.verdict,
            outcome.reason,
            status,
            files,
            outcome.counters_before,
            outcome.counters_after,
            outcome.thermal_before,
            outcome.thermal_after,
        )

    def _fetch(self) -> dict[str, Path]:
        wanted = (OUTPUT, ERRORS, SAMPLES, BEFORE, AFTER, *self.record.fetch)
        names = " ".join(map(quote, wanted))
        command = (
            f'cd {quote(self.folder)} && for f in {names}; do [ ! -f "$f" ] || echo "$f"; done'
        )
        there = check(self.target.run(command), f"{self.target.name}: listing the job's files")
        files = {}
        # Nothing else, whatever the device lists.
        for name in sorted({*there.splitlines()}.intersection(wanted)):
            files[name] = self.out_folder / name
            self.target.fetch(self.folder / name, files[name])
        return files

    def _lost(self, reason: str) -> JobResult:
        return JobResult(self.record.nonce, "lost_device", reason)


def stop(target: Target, folder: PurePosixPath) -> None:
    """Kill what lives of a job, and remove its folder.

    Raises:
        LostDeviceError: the device does not answer.
    """
    command = f"{kill_function()}\n{remove_command(quote(folder))}"
    check(target.run(command), f"{target.name}: removing job {folder.name}")


def abandon(target: Target, folder: PurePosixPath) -> None:
    """Stop a job as far as the device answers; the next start removes the rest."""
    with suppress(DeviceError):
        stop(target, folder)


def _text(files: Mapping[str, Path], name: str) -> str:
    path = files.get(name)
    return path.read_text(encoding="utf-8", errors="replace") if path else ""
