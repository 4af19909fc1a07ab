"""Candidates over the machines of a Ray cluster: a task each, one at a time on a machine.

Tasks and results are JSON text. Ray itself sends calls as pickles: use a cluster that you trust.
"""

import json
import platform
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pocketlm.advisor.record import Record
from pocketlm.advisor.task import Task, file_sha256
from pocketlm.advisor.watch import NoWatch, Watch
from pocketlm.edge_build.build_key import build_key
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.installation import install_command, tool_versions
from pocketlm.edge_build.preparation import prepare
from pocketlm.edge_build.program_digest import program_digest
from pocketlm.models.errors import ModelError
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.process_tuning import process_tuning

_RECORD, _MISTAKE = "record", "mistake"
_LAST_PORT = 65_535
_CONNECT_S = 10


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Give Ray, connected to a cluster during the block.

    Args:
        address: "HOST:PORT" of the head, or "auto" for the cluster of this machine.

    Raises:
        RunError: Ray is not installed, or no cluster answers.
    """
    require_ray()
    if address != "auto":
        _check_port(address)
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _no_cluster(address, type(error).__name__) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def require_ray() -> None:
    """Refuse where Ray is not installed.

    Raises:
        RunError: names the command that installs it.
    """
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise RunError(f"--ray needs ray, not installed; run: {install_command('ray')}") from error


def _check_port(address: str) -> None:
    """Refuse an address where nothing listens: Ray itself waits for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host or int(port) > _LAST_PORT:
        raise RunError(f"--ray {address}: give HOST:PORT of the cluster's head, or auto")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise _no_cluster(address, error.strerror or type(error).__name__) from error


def _no_cluster(address: str, why: str) -> RunError:
    return RunError(
        f"--ray {address}: no cluster answers ({why}); start one with `ray start --head`, and run "
        "this command on a machine of it"
    )


def spread(ray: Any, tasks: Sequence[Task], keep: Callable[[Record], None], watch: Watch) -> None:
    """Measure tasks on a cluster; each record is kept as it comes.

    Args:
        ray: connected.

    Raises:
        RunError: a machine of the cluster cannot measure; the others' records are kept.
    """
    versions = json.dumps(_versions())
    remote = ray.remote(measure_remotely).options(
        num_cpus=_processors_of_smallest(ray), scheduling_strategy="SPREAD", max_retries=1
    )
    waiting = {remote.remote(task.to_json(), versions): task for task in tasks}
    mistakes: list[str] = []
    watch.say(f"{len(tasks)} candidates on {len(_machines(ray))} machines of the cluster")
    while waiting:
        (ready,), _ = ray.wait(list(waiting), num_returns=1)
        task = waiting.pop(ready)
        kind, text = _result(ray, ready)
        if kind == _RECORD:
            record = Record.from_json(text)
            keep(record)
            where = f"measured on {record.machine.host}, {len(waiting)} to go"
            watch.say(f"{task.candidate.name}: {where}")
        else:
            mistakes.append(f"{task.candidate.name}: {text}")
            watch.say(mistakes[-1])
    if mistakes:
        raise RunError(mistakes[0])


def _result(ray: Any, ready: Any) -> tuple[str, str]:
    """Return the kind of a result and its text."""
    try:
        document = json.loads(ray.get(ready))
    except ray.exceptions.RayError as error:
        # A machine that was lost, or a mistake of ours.
        return _MISTAKE, " ".join(str(error).split())
    return document["kind"], document["text"]


def _machines(ray: Any) -> list[float]:
    """Return the processors of each machine that takes tasks."""
    alive = (node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
    return [count for count in alive if count >= 1]


def _processors_of_smallest(ray: Any) -> float:
    """Return how many processors a task takes: two on one machine would slow each other."""
    machines = _machines(ray)
    if not machines:
        raise RunError("--ray: no machine of the cluster has a processor for tasks")
    return min(machines)


def measure_remotely(task_json: str, versions_json: str) -> str:
    """Measure a task in a process of the cluster.

    Returns:
        JSON: a kind, "record" or "mistake", and its text.
    """
    task = Task.from_json(task_json)
    try:
        _check_here(task, json.loads(versions_json))
        record = _measure_here(task)
    except (ModelError, BuildError, RunError) as error:
        return json.dumps({"kind": _MISTAKE, "text": f"on {platform.node()}: {error}"})
    return json.dumps({"kind": _RECORD, "text": record.to_json()})


def _measure_here(task: Task) -> Record:
    from pocketlm.advisor.measuring import measure
    from pocketlm.advisor.tested import tested

    sources = task.sources
    against = tested(
        Path(sources.checkpoint),
        Path(sources.text),
        task.context_length,
        task.tokens,
        task.threads,
    )
    if against.reference.digest != sources.checkpoint_sha256:
        raise RunError(
            f"{sources.checkpoint} is another checkpoint there; copy the one that was asked about"
        )
    key = build_key(prepare(task.spec), sources.checkpoint_sha256)
    if key != task.build_key:
        raise RunError(
            f"{task.candidate.recipe} is another recipe there; copy the file that was asked about"
        )
    with process_tuning():
        return measure(task, against, NoWatch())


def _check_here(task: Task, versions: dict[str, str]) -> None:
    """Refuse a machine whose files or programs are others than those that were asked about."""
    ours = _versions()
    for name in sorted(versions.keys() | ours.keys()):
        if versions.get(name) != ours.get(name):
            raise RunError(
                f"{name} is {ours.get(name, 'not installed')} there and "
                f"{versions.get(name, 'not installed')} here; install the same"
            )
    sources = task.sources
    if not Path(sources.checkpoint).exists():
        raise _missing(sources.checkpoint)
    texts = {
        sources.text: sources.text_sha256,
        sources.calibration_text: sources.calibration_sha256,
    }
    for path, expected in texts.items():
        if path is None:
            continue
        if not Path(path).is_file():
            raise _missing(path)
        if file_sha256(Path(path)) != expected:
            raise RunError(f"{path} is another file there; copy the one that was asked about")


def _missing(path: str) -> RunError:
    return RunError(
        f"{path} is not there; put checkpoint and texts at the same paths on every machine"
    )


def _versions() -> dict[str, str]:
    return {**tool_versions(), "program of pocketlm": program_digest()[:12]}
