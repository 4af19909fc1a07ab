"""pocketlm jobs: what runs or lies on a device, to be collected or removed."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pocketlm.device_tests.commands.flags import shown_progress, target_option
from pocketlm.device_tests.commands.saving import save
from pocketlm.device_tests.errors import DeviceError
from pocketlm.runtime_py.commands.flags import json_option
from pocketlm.runtime_py.terminal import say

if TYPE_CHECKING:
    from pocketlm.device_tests.device.target import Target
    from pocketlm.device_tests.job.stored import Stored
    from pocketlm.device_tests.profiling.collecting import Collected

EVERYTHING = "all"
_DEVICE_FAILED = 3
_LOST = "lost_device"
_REPORT, _PAGE = "report.json", "report.html"


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
@click.option("--bundle", metavar="FOLDER", help="The bundle that ran, if it was moved since.")
@click.option("--raw", is_flag=True, help="Collect the job's files and make no report.")
@json_option
def jobs(
    action: str,
    job_id: str | None,
    target_name: str,
    out: Path | None,
    bundle: str | None,
    raw: bool,
    as_json: bool,
) -> None:
    """List, collect or remove jobs and files on a device.

    A job goes on when its connection is lost: `collect ID` waits for its end, brings back what it
    wrote and makes the report of a profile, with `profile`'s exit codes. `remove ID` stops a job;
    `remove all` removes every job, bundle and runner.

    \b
    Examples:
      pocketlm jobs --on ssh:raspberrypi
      pocketlm jobs collect 0f3a5b2c9d8e7f61 --on adb
      pocketlm jobs remove all --on host
    """
    from pocketlm.device_tests.device.targets import open_target

    if action == "list" and job_id:
        raise DeviceError(f"jobs list {job_id}: list takes no ID; did you mean collect or remove?")
    if action != "list" and not job_id:
        raise DeviceError(
            f"jobs {action}: name the job's ID; `pocketlm jobs --on TARGET` lists them"
        )
    for flag, value in (("--out", out), ("--bundle", bundle), ("--raw", raw or None)):
        if value is not None and action != "collect":
            shown = flag if value is True else f"{flag} {value}"
            raise DeviceError(f"jobs {action} {shown}: only collect writes files; leave {flag} out")
    target, status = open_target(target_name), 0
    try:
        if action == "list":
            document = _list(target, as_json)
        elif action == "collect":
            folder = out or Path(f"job-{job_id}")
            found = _collect(target, str(job_id), folder, bundle, raw)
            document, status = _collected(target, found, folder, as_json)
        else:
            document = _remove(target, str(job_id), as_json)
    finally:
        target.close()
    if as_json:
        click.echo(json.dumps(document, indent=1))
    sys.exit(status)


def _list(target: "Target", quiet: bool) -> dict[str, Any]:
    from pocketlm.device_tests.job.stored import list_stored
    from pocketlm.device_tests.quantities import duration_text, size_text

    stored = list_stored(target)
    if not quiet:
        for job in stored.jobs:
            say(f"job {job.id}: {job.state}, {duration_text(job.age_s)} ago")
        for folder in stored.folders:
            say(f"{folder.name}: {size_text(folder.size_bytes)}")
        if not stored.jobs and not stored.folders:
            say(f"{target.name}: nothing lies in {stored.folder}")
        else:
            say(
                f"all in {stored.folder} on {target.name}; "
                f"to remove it: pocketlm jobs remove all --on {target.name}"
            )
    return {"target": target.name, **asdict(stored)}


def _collect(
    target: "Target", job_id: str, out: Path, bundle: str | None, raw: bool
) -> "Collected":
    from pocketlm.device_tests.job.stored import find_job
    from pocketlm.device_tests.profiling.collecting import collect

    find_job(target, job_id)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DeviceError(f"--out {out}: there is something already; name a new folder")
    with shown_progress() as progress:
        return collect(target, job_id, out, progress, bundle=bundle, raw=raw)


def _collected(
    target: "Target", found: "Collected", out: Path, quiet: bool
) -> tuple[dict[str, Any], int]:
    """Write and print what came of a job; returns the document and the exit code."""
    from pocketlm.device_tests.commands.profile_bundle import exit_code, show
    from pocketlm.device_tests.device.target import LostDeviceError
    from pocketlm.device_tests.job.verdict import MEASURED

    job, report = found.job, found.report
    if report is not None:
        from pocketlm.device_tests.report.page import render_html

        save(report.to_json(), out / _REPORT)
        save(render_html(report), out / _PAGE)
    if not quiet:
        if job.verdict == _LOST:
            raise LostDeviceError(job.reason)
        if report is not None:
            show(report)
        else:
            why = f"; no report: {found.without_report}" if found.without_report else ""
            say(f"job {job.nonce}: {job.verdict.replace('_', ' ')}; {job.reason}{why}")
        if job.files:
            more = f", {_REPORT} and {_PAGE}" if report is not None else ""
            say(f"{len(job.files)} files{more} are in {out}")
    document = {
        "target": target.name,
        "id": job.nonce,
        "verdict": job.verdict if report is None else report.verdict,
        "reason": job.reason if report is None else report.reason,
        "files": {name: str(path) for name, path in job.files.items()},
        "report": None if report is None else str(out / _REPORT),
        "page": None if report is None else str(out / _PAGE),
    }
    if report is not None:
        return document, exit_code(report)
    return document, 0 if job.verdict in MEASURED else _DEVICE_FAILED


def _remove(target: "Target", job_id: str, quiet: bool) -> dict[str, Any]:
    from pocketlm.device_tests.job.lifecycle import stop_job
    from pocketlm.device_tests.job.stored import Stored, find_job, remove_everything

    if job_id == EVERYTHING:
        stored = remove_everything(target)
    else:
        job = find_job(target, job_id)
        stop_job(target, job_id)
        stored = Stored(str(target.folder), (job,), ())
    if not quiet:
        say(f"removed from {target.name}: {_counted(stored)}")
    return {"target": target.name, "removed": asdict(stored)}


def _counted(stored: "Stored") -> str:
    size = sum(folder.size_bytes for folder in stored.folders)
    return (
        f"{len(stored.jobs)} jobs, {len(stored.folders)} bundles and runners ({size / 1e6:,.1f} MB)"
    )
