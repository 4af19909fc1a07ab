"""What lies on a device: jobs that run or ended there, and bundles and runners that were sent."""

import re
from dataclasses import dataclass
from typing import Literal

from pocketlm.device_tests.device.shell import check, quote
from pocketlm.device_tests.device.shell_numbers import NUMBER
from pocketlm.device_tests.device.target import Target
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.job.script import DONE, PID_FILE, kill_function, remove_command
from pocketlm.device_tests.job.state import JOBS
from pocketlm.device_tests.runners.upload import BUNDLES, RUNNERS

JobStatus = Literal["running", "ended", "dead"]


@dataclass(frozen=True)
class StoredJob:
    """One job.

    Attributes:
        state: "ended" jobs wait to be collected; "dead" ones were killed with their shell.
        age_s: since its folder last changed.
    """

    id: str
    state: JobStatus
    age_s: int


@dataclass(frozen=True)
class StoredFolder:
    """One bundle or runner: "bundles/DIGEST" or "runners/DIGEST"."""

    name: str
    size_bytes: int


@dataclass(frozen=True)
class Stored:
    """Everything of ours on a device."""

    folder: str
    jobs: tuple[StoredJob, ...]
    folders: tuple[StoredFolder, ...]


def list_stored(target: Target) -> Stored:
    """Return what lies on a device.

    Raises:
        LostDeviceError, RefusedError: the device went away, or forbids it.
    """
    command = f"""{kill_function()}
now=$(date +%s)
[ -d {quote(target.folder)} ] || exit 0
cd {quote(target.folder)} || exit 1
for job in {JOBS}/*; do
  [ -d "$job" ] || continue
  state=dead
  [ ! -f "$job/{DONE}" ] || state=ended
  ! is_running "$job/{PID_FILE}" || state=running
  echo "job ${{job##*/}} $state $((now - $(stat -c %Y "$job")))"
done
for stored in {BUNDLES}/* {RUNNERS}/*; do
  [ ! -d "$stored" ] || echo "stored $stored $(du -sk "$stored" | cut -f 1)"
done"""
    lines = check(target.run(command), f"{target.name}: looking at {target.folder}")
    jobs = re.findall(rf"^job (\w+) (running|ended|dead) (-?{NUMBER})$", lines, re.MULTILINE)
    folders = re.findall(rf"^stored (\w+/\w+) ({NUMBER})$", lines, re.MULTILINE)
    return Stored(
        str(target.folder),
        tuple(StoredJob(name, state, max(0, int(age))) for name, state, age in jobs),
        tuple(StoredFolder(name, 1024 * int(size)) for name, size in folders),
    )


def find_job(target: Target, job_id: str) -> StoredJob:
    """Return a job that is there.

    Raises:
        DeviceError: there is none of that name.
    """
    jobs = list_stored(target).jobs
    found = next((job for job in jobs if job.id == job_id), None)
    if found is None:
        known = ", ".join(job.id for job in jobs) or "none"
        raise DeviceError(f"{target.name}: there is no job {job_id!r}; jobs there: {known}")
    return found


def remove_everything(target: Target) -> Stored:
    """Remove every job, bundle and runner; return what was there.

    Raises:
        DeviceError: a job still runs.
    """
    stored = list_stored(target)
    running = [job.id for job in stored.jobs if job.state == "running"]
    if running:
        raise DeviceError(
            f"{target.name}: job {running[0]} is still running; wait for its end, or stop it: "
            f"pocketlm jobs remove {running[0]} --on {target.name}"
        )
    ours = " ".join(quote(target.folder / name) for name in (JOBS, BUNDLES, RUNNERS))
    command = (
        f"{kill_function()}\nfor job in {quote(target.folder / JOBS)}/*; do "
        f'[ ! -d "$job" ] || {{ {remove_command(chr(34) + "$job" + chr(34))}; }}; done\n'
        f"rm -rf {ours}"
    )
    check(target.run(command, timeout_s=120), f"{target.name}: removing {target.folder}")
    return stored
