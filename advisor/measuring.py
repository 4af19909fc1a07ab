"""One candidate: its bundle built or reused, evaluated against its checkpoint, and timed."""

import numpy as np

from pocketlm.advisor.record import Machine, Record
from pocketlm.advisor.speed import measure_speed
from pocketlm.advisor.task import Task
from pocketlm.advisor.tested import Tested
from pocketlm.advisor.watch import Watch
from pocketlm.edge_build.build import build
from pocketlm.evaluation.evaluation import Evaluation, evaluate
from pocketlm.evaluation.kept_passages import kept_passages
from pocketlm.evaluation.result import result_of
from pocketlm.evaluation.subject import artifact_subject, is_bundle
from pocketlm.runtime_py.bundle import open_bundle
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.session import open_session


def measure(task: Task, against: Tested, watch: Watch) -> Record:
    """Return the figures of a candidate.

    A bundle that is built is reused, what an interrupted build or evaluation finished too.

    Raises:
        ModelError, BuildError, RunError: it cannot be built or run.
    """
    if task.fresh or not _is_whole(task.bundle):
        watch.say(f"{task.candidate.name}: building")
        with watch.building() as notify:
            build(task.spec, notify)
    watch.say(f"{task.candidate.name}: evaluating {against.tokens:,} tokens")
    backend = task.candidate.backend
    subject = artifact_subject(task.bundle, backend, task.threads)
    kept = kept_passages([subject.digest, against.reference.digest], against.passages)
    if task.fresh:
        kept.clear()
    with watch.evaluating() as advance:
        evaluation = evaluate(subject, against.reference, against.passages, kept, advance)
    watch.say(f"{task.candidate.name}: measuring speed")
    with open_session(open_bundle(task.bundle), backend, task.threads) as session:
        speed = measure_speed(session, against.passages[0].ids)
    return Record(
        key=task.key,
        evaluation=result_of(subject, against.reference, evaluation),
        kl_error_nats=_standard_error(evaluation),
        speed=speed,
        machine=Machine.here(task.threads),
        bundle=task.bundle,
    )


def _is_whole(bundle: str) -> bool:
    if not is_bundle(bundle):
        return False
    try:
        open_bundle(bundle)
    except RunError:
        # Damaged after the build: it is built again.
        return False
    return True


def _standard_error(evaluation: Evaluation) -> float:
    """Return the standard error of the mean divergence, tokens taken as independent."""
    kl_nats = evaluation.measures.kl_nats
    return float(kl_nats.std(ddof=1) / np.sqrt(len(kl_nats))) if len(kl_nats) > 1 else 0.0
