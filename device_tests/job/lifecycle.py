"""Jobs that outlive the connection: a command on a device, watched from here, and what it left.

Any command will do. How a job runs there is script.py; how it ended is outcome.py.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from pocketlm.device_tests.device.retry import retry
from pocketlm.device_tests.device.shell import check, new_nonce, quote
from pocketlm.device_tests.device.target import LostDeviceError, RefusedError, Target
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.job.script import (
    SCRIPT,
    SPEC,
    ScriptParts,
    job_script,
    start_command,
)
from pocketlm.device_tests.job.state import JOBS, ask_boot_id, remove_stale
from pocketlm.device_tests.job.values import JobRecord, JobResult, JobSpec
from pocketlm.device_tests.job.watcher import JobWatcher, OnOutput, abandon, stop
from pocketlm.runtime_py.terminal import printable_line
from pocketlm.runtime_py.typed_json import FieldError, load_object, read_as

RECONNECT_S = 60.0
_START_S = 300.0  # the device may first have a whole model to write to its disk


def run_job(
    target: Target,
    spec: JobSpec,
    out_folder: Path,
    on_output: OnOutput = lambda line: None,
    *,
    reconnect_s: float = RECONNECT_S,
) -> JobResult:
    """Run a command on a device and bring back what it left.

    Whatever happens to the device, the run or the connection is a verdict, not an exception. When
    this is interrupted, the job is stopped and removed.

    Args:
        out_folder: gets the files.
        reconnect_s: how long a device that went away is waited for; the job goes on there.

    Raises:
        DeviceError: the job cannot be: a file is missing here, a tool there, or an earlier job is
            still running.
    """
    nonce = new_nonce()
    folder = job_folder(target, nonce)
    out_folder.mkdir(parents=True, exist_ok=True)
    try:
        live = retry(lambda: remove_stale(target), reconnect_s)
        if live:
            raise DeviceError(
                f"{target.name}: job {live[0]} is still running there, and two at a time would "
                f"measure each other; wait for its end, or: pocketlm jobs collect {live[0]} --on "
                f"{target.name}, or remove instead of collect"
            )
        boot_id = retry(lambda: ask_boot_id(target), reconnect_s)
        record = JobRecord(nonce, spec.fetch, spec.timeout_s, boot_id, spec.note)
        _prepare(target, spec, record, folder)
        retry(lambda: _start(target, folder), reconnect_s)
    except LostDeviceError as error:
        return JobResult(nonce, "lost_device", str(error))
    except RefusedError as error:
        abandon(target, folder)
        return JobResult(nonce, error.reason, str(error))
    except BaseException:
        abandon(target, folder)
        raise
    return JobWatcher(target, record, folder, out_folder, on_output, reconnect_s).until_end()


def collect_job(
    target: Target,
    nonce: str,
    out_folder: Path,
    on_output: OnOutput = lambda line: None,
    *,
    reconnect_s: float = RECONNECT_S,
) -> JobResult:
    """Go on with a job whose connection was lost: wait for its end and bring back what it left.

    Raises:
        DeviceError: there is no such job on the device, or what it left cannot be brought back;
            then `out_folder` is as it was.
    """
    folder = job_folder(target, nonce)
    try:
        record = retry(lambda: read_record(target, nonce), reconnect_s)
    except LostDeviceError as error:
        return JobResult(nonce, "lost_device", str(error))
    with _only_whole(out_folder) as whole:
        result = JobWatcher(target, record, folder, out_folder, on_output, reconnect_s).until_end()
        whole.update(result.files.values())
    return result


@contextmanager
def _only_whole(folder: Path) -> Iterator[set[Path]]:
    """Give a set for the files that were written whole; in the end only these are new."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    whole = set(folder.iterdir())
    try:
        yield whole
    finally:
        for path in set(folder.iterdir()) - whole:
            path.unlink()
        with suppress(OSError):  # not empty: something came that stays
            for path in made:
                path.rmdir()


def stop_job(target: Target, nonce: str) -> None:
    """Kill a job and remove what it left.

    Raises:
        LostDeviceError: the device does not answer.
    """
    stop(target, job_folder(target, nonce))


def job_folder(target: Target, nonce: str) -> PurePosixPath:
    """Return where a job lies on its device."""
    return target.folder / JOBS / nonce


def read_record(target: Target, nonce: str) -> JobRecord:
    """Return what lies with a job.

    Raises:
        DeviceError: there is no such job, or its record is damaged or of another version.
        LostDeviceError: the device does not answer.
    """
    folder = job_folder(target, nonce)
    done = target.run(f"cat {quote(folder / SPEC)}")
    if done.status:
        raise DeviceError(
            f"{target.name}: there is no job {folder.name}; it was collected, stopped or removed"
        )
    try:
        record = read_as(JobRecord, load_object(done.output))
        if record.nonce != folder.name:
            raise FieldError(f"nonce: expected {folder.name}, found {printable_line(record.nonce)}")
    except FieldError as error:
        raise DeviceError(
            f"{target.name}: job {folder.name} cannot be collected: its {SPEC} is of another "
            f"pocketlm, or damaged ({error}); remove it: pocketlm jobs remove {folder.name} --on "
            f"{target.name}"
        ) from error
    return record


def _prepare(target: Target, spec: JobSpec, record: JobRecord, folder: PurePosixPath) -> None:
    parts = ScriptParts(record.nonce, folder, spec.command, spec.companion, spec.timeout_s)
    with TemporaryDirectory(prefix="pocketlm-") as made:
        script, described = Path(made) / SCRIPT, Path(made) / SPEC
        script.write_text(job_script(parts), encoding="utf-8")
        described.write_text(json.dumps(asdict(record)), encoding="utf-8")
        for name, source in {**spec.files, SPEC: described, SCRIPT: script}.items():
            target.send(source, folder / name)


def _start(target: Target, folder: PurePosixPath) -> None:
    check(target.run(start_command(folder), timeout_s=_START_S), f"{target.name}: starting a job")
