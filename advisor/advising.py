"""advise(question): plan, build and measure what fits, and choose."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pocketlm.advisor.advice import Advice
from pocketlm.advisor.answering import answer
from pocketlm.advisor.candidates import candidates
from pocketlm.advisor.limits import Limits
from pocketlm.advisor.measuring import measure
from pocketlm.advisor.planning import Planned, Settings, plan, refuse_impossible
from pocketlm.advisor.question import Question
from pocketlm.advisor.record import Record
from pocketlm.advisor.task import Sources, Task, file_sha256
from pocketlm.advisor.tested import Tested, tested
from pocketlm.advisor.watch import Watch
from pocketlm.advisor.work_folder import WorkFolder
from pocketlm.device_tests.fit.memory_budget import find_budget
from pocketlm.edge_build import backends
from pocketlm.edge_build.calibration.text import read_text_file
from pocketlm.evaluation.subject import is_bundle
from pocketlm.models.hub import checkpoint_name, resolve
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.user_cache import cache_folder

_KIND = "advice"
_CONTINUE = "what is measured is kept; run the same command again to go on"

# Takes what was measured of one candidate.
Keep = Callable[[Record], None]
Measure = Callable[[Sequence[Task], Keep], None]


def advise(question: Question, watch: Watch) -> Advice:
    """Say which quantization to take, by measurements of the artifacts that would ship.

    Raises:
        ModelError, BuildError, RunError, DeviceError: the question cannot be answered.
    """
    _refuse_bundle(question.checkpoint)
    _refuse_same_text(question)
    limits = Limits(
        question.ram_bytes,
        None if question.device is None else find_budget(question.device),
        question.least_agreement,
    )
    wanted = candidates(question.candidates, _backends(question))
    checkpoint = resolve(question.checkpoint).absolute()
    with _cluster(question.ray) as ray:
        watch.say(f"{question.checkpoint}: reading the checkpoint")
        against = tested(
            checkpoint, question.text, question.context_length, question.tokens, question.threads
        )
        folder = WorkFolder(question.out or _default_folder(checkpoint, against))
        folder.check()
        planned = plan(
            wanted,
            _sources(question, checkpoint, against),
            Settings(question.context_length, question.tokens, question.threads, question.fresh),
            limits,
            folder,
            are_named=bool(question.candidates),
        )
        refuse_impossible(planned, limits)
        with folder.held():
            folder.write_plan(_plan_document(question, planned))
            records = _records(planned, folder, _measuring(ray, against, watch), watch)
    return answer(question, planned, records, limits, against.tokens)


def _backends(question: Question) -> tuple[str, ...]:
    for name in question.backends:
        backends.load(name)
    return tuple(dict.fromkeys(question.backends)) or backends.names()


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Give Ray, connected; None where no cluster was asked for."""
    if address is None:
        yield None
        return
    from pocketlm.advisor.spreading import connected

    with connected(address) as ray:
        yield ray


def _refuse_bundle(checkpoint: str) -> None:
    if is_bundle(checkpoint) and not (Path(checkpoint) / "config.json").exists():
        raise RunError(
            f"{checkpoint}: a bundle, built already; give the checkpoint that it was built from, "
            "or measure the bundle with pocketlm eval"
        )


def _refuse_same_text(question: Question) -> None:
    """Refuse a text that is measured on and fitted to."""
    if question.calibration_text is None:
        return
    calibration = read_text_file(question.calibration_text)
    if calibration.strip() and calibration == read_text_file(question.text):
        raise RunError(
            f"--calibrate {question.calibration_text}: the same text as --text; what is calibrated "
            "on it would look better than it is: give two texts of one kind"
        )


def _default_folder(checkpoint: Path, against: Tested) -> Path:
    name = f"{checkpoint_name(checkpoint)}-{against.reference.digest[:10]}"
    return cache_folder() / _KIND / name


def _sources(question: Question, checkpoint: Path, against: Tested) -> Sources:
    calibration = question.calibration_text
    return Sources(
        str(checkpoint),
        against.reference.digest,
        str(question.text.absolute()),
        file_sha256(question.text),
        None if calibration is None else str(calibration.absolute()),
        None if calibration is None else file_sha256(calibration),
    )


def _plan_document(question: Question, planned: Sequence[Planned]) -> dict[str, object]:
    asked = {key: str(value) for key, value in asdict(question).items() if value}
    return {
        "asked": asked,
        "candidates": [
            {
                "name": one.candidate.name,
                "key": one.task.key if one.task else None,
                "bundle": one.task.bundle if one.task else None,
                "memory": asdict(one.memory) if one.memory else None,
                "reason": one.reason,
            }
            for one in planned
        ],
    }


def _measuring(ray: Any, against: Tested, watch: Watch) -> Measure:
    """Return what measures tasks: a cluster, or this process, one after the other."""
    if ray is not None:
        from pocketlm.advisor.spreading import spread

        return lambda tasks, keep: spread(ray, tasks, keep, watch)

    def measure_here(tasks: Sequence[Task], keep: Keep) -> None:
        for number, task in enumerate(tasks, 1):
            watch.say(f"candidate {number} of {len(tasks)}: {task.candidate.name}")
            keep(measure(task, against, watch))

    return measure_here


def _records(
    planned: Sequence[Planned], folder: WorkFolder, measure_all: Measure, watch: Watch
) -> dict[str, Record]:
    """Return the record of each candidate that fits, by key; measures those that are not kept."""
    tasks = [one.task for one in planned if one.task is not None and one.is_measured]
    kept = (None if task.fresh else folder.read_record(task.key) for task in tasks)
    found = {record.key: record for record in kept if record is not None}
    if found:
        watch.say(f"{len(found)} of {len(tasks)} candidates were measured by an earlier run")

    def keep(record: Record) -> None:
        folder.write_record(record)
        found[record.key] = record

    missing = [task for task in tasks if task.key not in found]
    try:
        if missing:
            measure_all(missing, keep)
    except KeyboardInterrupt as error:
        error.add_note(_CONTINUE)
        raise
    return found
