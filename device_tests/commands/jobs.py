"""pocketlm jobs: what runs or lies on a device, to be collected or removed."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_tests.commands.flags import json_option, target_option
from device_tests.errors import DeviceError
from runtime_py.terminal import say

if TYPE_CHECKING:
    from device_tests.kept_there import Kept
    from device_tests.target import Target

EVERYTHING = "all"
_DEVICE_FAILED = 3
_LOST = "lost_device"


@click.command("jobs")
@click.argument(
    "action", type=click.Choice(["list", "collect", "remove"]), default="list", required=False
)
@click.argument("job_id", metavar="[ID]", required=False)
@target_option
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for what is collected. Default: job-ID.",
)
@json_option
def jobs(
    action: str, job_id: str | None, target_name: str, out: Path | None, as_json: bool
) -> None:
    """List, collect or remove what lies on a device.

    A job goes on when its connection is lost: `collect ID` waits for its end and brings back what
    it wrote; exit code 3 if the device was lost. `remove ID` stops a job; `remove all` removes
    every job, bundle and runner.

    \b
    Examples:
      pocketlm jobs --on ssh:raspberrypi
      pocketlm jobs collect 0f3a5b2c9d8e7f61 --on adb
      pocketlm jobs remove all --on host
    """
    from device_tests.targets import open_target

    if action == "list" and job_id:
        raise DeviceError(f"jobs list {job_id}: list takes no ID; did you mean collect or remove?")
    if action != "list" and not job_id:
        raise DeviceError(
            f"jobs {action}: name the job's ID; `pocketlm jobs --on TARGET` lists them"
        )
    if out is not None and action != "collect":
        raise DeviceError(f"jobs {action} --out {out}: only collect writes files; leave --out out")
    target = open_target(target_name)
    try:
        if action == "list":
            document = _list(target, as_json)
        elif action == "collect":
            document = _collect(target, str(job_id), out or Path(f"job-{job_id}"), as_json)
        else:
            document = _remove(target, str(job_id), as_json)
    finally:
        target.close()
    if as_json:
        click.echo(json.dumps(document, indent=1))
    if document.get("verdict") == _LOST:
        sys.exit(_DEVICE_FAILED)


def _list(target: "Target", quiet: bool) -> dict[str, Any]:
    from device_tests.kept_there import look
    from device_tests.report.quantities import duration_text, size_text

    kept = look(target)
    if not quiet:
        for job in kept.jobs:
            say(f"job {job.id}: {job.state}, {duration_text(job.age_s)} ago")
        for folder in kept.folders:
            say(f"{folder.name}: {size_text(folder.size_bytes)}")
        if not kept.jobs and not kept.folders:
            say(f"{target.name}: nothing lies in {kept.folder}")
        else:
            say(
                f"all in {kept.folder} on {target.name}; "
                f"to remove it: pocketlm jobs remove all --on {target.name}"
            )
    return {"target": target.name, **asdict(kept)}


def _collect(target: "Target", job_id: str, out: Path, quiet: bool) -> dict[str, Any]:
    from device_tests.job import collect_job
    from device_tests.kept_there import known_job
    from device_tests.target import LostDeviceError

    known_job(target, job_id)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DeviceError(f"--out {out}: there is something already; name a new folder")
    result = collect_job(target, job_id, out)
    if not quiet:
        if result.verdict == _LOST:
            raise LostDeviceError(result.reason)
        say(f"job {job_id}: {result.verdict.replace('_', ' ')}; {result.reason}")
        if result.files:
            say(f"{len(result.files)} files are in {out}")
    return {
        "target": target.name,
        "id": job_id,
        "verdict": result.verdict,
        "reason": result.reason,
        "files": {name: str(path) for name, path in result.files.items()},
    }


def _remove(target: "Target", job_id: str, quiet: bool) -> dict[str, Any]:
    from device_tests.job import stop_job
    from device_tests.kept_there import Kept, known_job, remove_everything

    if job_id == EVERYTHING:
        kept = remove_everything(target)
    else:
        job = known_job(target, job_id)
        stop_job(target, job_id)
        kept = Kept(str(target.folder), (job,), ())
    if not quiet:
        say(f"removed from {target.name}: {_counted(kept)}")
    return {"target": target.name, "removed": asdict(kept)}


def _counted(kept: "Kept") -> str:
    size = sum(folder.size_bytes for folder in kept.folders)
    return f"{len(kept.jobs)} jobs, {len(kept.folders)} bundles and runners ({size / 1e6:,.1f} MB)"
