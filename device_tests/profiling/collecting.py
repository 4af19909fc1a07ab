"""A job whose connection was lost → what it left, and the report that `profile` would have made."""

from dataclasses import dataclass
from pathlib import Path

from pocketlm.device_tests.device.target import Target
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.job.lifecycle import collect_job, read_record
from pocketlm.device_tests.job.values import JobResult
from pocketlm.device_tests.profiling.document import Report
from pocketlm.device_tests.profiling.measured_run import MeasuredRun, RunNote, check_tokens
from pocketlm.device_tests.profiling.pipeline import ProgressCallbacks, report_of, runner_for
from pocketlm.device_tests.runners.upload import folder_name
from pocketlm.runtime_py.bundle import Bundle, open_bundle
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.typed_json import FieldError, read_as


@dataclass(frozen=True)
class Collected:
    """What came of a job.

    Attributes:
        report: None where the job was no measured run, or its bundle is not here.
        without_report: why there is none.
    """

    job: JobResult
    report: Report | None
    without_report: str = ""


def collect(
    target: Target,
    job_id: str,
    out: Path,
    progress: ProgressCallbacks,
    *,
    bundle: str | None,
    raw: bool,
) -> Collected:
    """Wait for a job's end, bring back what it left into `out`, and make its report.

    Args:
        bundle: that was profiled; None is where it lay then.
        raw: whether to make no report.

    Raises:
        DeviceError: there is no such job, or its bundle is not at hand. The job stays there then.
    """
    note = _note_of(target, job_id)
    # Before anything is fetched: what is collected does not stay on the device.
    opened = None if note is None or raw else _bundle_of(note, bundle)
    progress.step(f"waiting for job {job_id} on {target.name}")
    job = collect_job(target, job_id, out, progress.line)
    if note is None or opened is None:
        return Collected(job, None, "" if raw else "it was no profile, or of an older pocketlm")
    if not job.files:
        return Collected(job, None, "nothing came back")
    try:
        device = target.facts()
        runner = runner_for(target, device, note.load.backend, progress)
    except DeviceError as error:
        return Collected(job, None, str(error))
    run = MeasuredRun.of(job)
    return Collected(job, report_of(target.name, device, opened, runner, note.load, run))


def _note_of(target: Target, job_id: str) -> RunNote | None:
    note = read_record(target, job_id).note
    if not note:
        return None
    try:
        return read_as(RunNote, note)
    except FieldError:
        return None


def _bundle_of(note: RunNote, named: str | None) -> Bundle:
    asked = f"--bundle {named}" if named else f"the job's bundle {note.bundle}"
    advice = "name the one that it ran with --bundle, or take its files alone with --raw"
    try:
        bundle = open_bundle(named or note.bundle)
        bundle.backend(note.load.backend)
    except RunError as error:
        raise DeviceError(f"{asked}: cannot be read ({error}); {advice}") from error
    if folder_name(bundle) != note.digest:
        raise DeviceError(f"{asked}: it is not the one that the job ran; {advice}")
    check_tokens(bundle, len(note.load.prompt_ids), note.load.decode_tokens)
    return bundle
