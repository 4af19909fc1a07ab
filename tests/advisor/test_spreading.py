"""Candidates over a Ray cluster of two processes on this machine: the same figures as without."""

import copy
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pocketlm.advisor import spreading
from pocketlm.advisor.candidates import Candidate
from pocketlm.advisor.record import Record
from pocketlm.advisor.spreading import measure_remotely, spread
from pocketlm.advisor.task import Sources, Task, file_sha256
from pocketlm.advisor.watch import NoWatch
from pocketlm.edge_build.installation import tool_versions
from pocketlm.edge_build.program_digest import program_digest
from pocketlm.models.checkpoint import open_checkpoint
from pocketlm.runtime_py.errors import RunError
from tests.advisor.conftest import TWO, Asked, Resumed, record_of

ROOT = Path(__file__).parents[2]
VERSIONS = {**tool_versions(), "program of pocketlm": program_digest()[:12]}

# Ray in a process of its own, which takes its cluster along when it ends.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a head and a second machine, as Ray sees them."""
    pytest.importorskip("ray")
    with tempfile.TemporaryDirectory(prefix="ray") as short:
        yield from _cluster(short, tmp_path_factory)


def _cluster(folder: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a cluster with its sockets in a folder, whose path must be short for a socket's name."""
    environment = {
        **os.environ,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": folder,
        # What is evaluated here is evaluated there again.
        "POCKETLM_CACHE": str(tmp_path_factory.mktemp("cache")),
        "PYTHONPATH": str(ROOT),
    }
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, "the cluster has not started"
        yield address
        process.stdin.close()
        process.wait()


def figures(document: dict[str, Any]) -> dict[str, Any]:
    """Return what depends neither on the machine nor on the folder."""
    for one in document["candidates"]:
        for name in ("speed", "bundle"):
            del one["record"][name]
        del one["record"]["evaluation"]["subject"]
    return document


def test_a_cluster_gives_the_table_that_one_machine_gives(
    cluster: str, resumed: Resumed, tmp_path: Path
) -> None:
    asked = resumed.asked
    # One is built there, the other reused.
    there = tmp_path / "there"
    shutil.copytree(asked.out, there, ignore=shutil.ignore_patterns("measured", "int8-channel*"))
    words = ["advise", asked.checkpoint, "--text", asked.text, "--out", there, *TWO]
    done = subprocess.run(
        [sys.executable, "-m", "pocketlm", *map(str, words), "--ray", cluster, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "2 candidates on 2 machines of the cluster" in done.stderr
    assert done.stderr.count(": measured on ") == 2
    for made in ("measured", "bundles"):
        assert len(list((there / made).iterdir())) == 2
    assert figures(json.loads(done.stdout)) == figures(copy.deepcopy(resumed.document))


@pytest.fixture
def task(asked: Asked) -> Task:
    """A candidate as another machine gets it."""
    digest = open_checkpoint(asked.checkpoint).digest()
    text = str(asked.text)
    sources = Sources(str(asked.checkpoint), digest, text, file_sha256(asked.text))
    candidate = Candidate("int8-channel", None, "onnx")
    return Task(candidate, sources, False, None, 40, None, "key", str(asked.out / "bundle"))


def mistake(task: Task, versions: dict[str, str] = VERSIONS) -> str:
    found = json.loads(measure_remotely(task.to_json(), json.dumps(versions)))
    assert found["kind"] == "mistake"
    assert not Path(task.bundle).parent.exists()
    text: str = found["text"]
    assert text.startswith(f"on {os.uname().nodename}: ")
    return text


def test_another_machine_says_what_it_lacks(task: Task, tmp_path: Path) -> None:
    sources = task.sources
    for change in (
        {"checkpoint": "/nowhere"},
        {"text": "/nowhere"},
        {"calibration_text": "/nowhere"},
    ):
        other = replace(task, sources=replace(sources, **change))
        assert "/nowhere is not there; put checkpoint and texts at the same paths" in mistake(other)
    other = replace(task, sources=replace(sources, text_sha256="another"))
    assert f"{sources.text} is another file there" in mistake(other)
    other = replace(task, sources=replace(sources, checkpoint_sha256="another"))
    assert f"{sources.checkpoint} is another checkpoint there" in mistake(other)
    assert "int8-channel is another recipe there" in mistake(task)


def test_another_machine_must_have_the_same_programs(task: Task) -> None:
    said = mistake(task, {**VERSIONS, "numpy": "0.1"})
    assert f"numpy is {VERSIONS['numpy']} there and 0.1 here; install the same" in said
    assert "nothing is not installed there" in mistake(task, {**VERSIONS, "nothing": "1"})


class _LostError(Exception):
    """As Ray raises it."""


@dataclass
class RayDouble:
    """A cluster that answers at once: results by recipe.

    Attributes:
        asked: options of tasks.
    """

    results: dict[str, str | Exception]
    processors: tuple[float, ...] = (4.0, 2.0)
    asked: dict[str, Any] = field(default_factory=dict)

    @property
    def exceptions(self) -> Any:
        return SimpleNamespace(RayError=_LostError)

    def nodes(self) -> list[dict[str, Any]]:
        alive = [{"Alive": True, "Resources": {"CPU": count}} for count in self.processors]
        return [*alive, {"Alive": True, "Resources": {}}, {"Alive": False, "Resources": {"CPU": 1}}]

    def remote(self, function: object) -> Any:
        assert function is measure_remotely

        def options(**asked: Any) -> Any:
            self.asked = asked
            return SimpleNamespace(
                remote=lambda text, versions: Task.from_json(text).candidate.recipe
            )

        return SimpleNamespace(options=options)

    def wait(self, waiting: list[str], num_returns: int) -> tuple[list[str], list[str]]:
        return waiting[-1:], waiting[:-1]

    def get(self, recipe: str) -> str:
        found = self.results[recipe]
        if isinstance(found, Exception):
            raise found
        return found


def test_each_record_is_kept_although_a_machine_is_lost(task: Task) -> None:
    other = replace(task, candidate=Candidate("int4-g32", None, "onnx"))
    record = record_of(other)
    ray = RayDouble(
        {
            "int8-channel": _LostError("the worker\ndied"),
            "int4-g32": json.dumps({"kind": "record", "text": record.to_json()}),
        }
    )
    kept: list[Record] = []
    with pytest.raises(RunError, match=r"^int8-channel on onnx: the worker died$"):
        spread(ray, [task, other], kept.append, NoWatch())
    assert kept == [record]
    # One task at a time on each machine, also on the smallest.
    assert ray.asked["num_cpus"] == 2 and ray.asked["scheduling_strategy"] == "SPREAD"


def test_a_cluster_without_processors_is_refused(task: Task) -> None:
    with pytest.raises(RunError, match="no machine of the cluster has a processor for tasks"):
        spread(RayDouble({}, processors=()), [task], lambda record: None, NoWatch())


@pytest.mark.parametrize(
    "address", ["nonsense", "ray://host:10001", ":6379", "host:", "host:port", "host:70000"]
)
def test_an_address_is_a_host_and_a_port(asked: Asked, address: str) -> None:
    pytest.importorskip("ray")
    said = asked.error(*TWO, "--ray", address)
    assert f"--ray {address}: give HOST:PORT of the cluster's head, or auto" in said


def test_where_no_cluster_answers_that_is_said_at_once(asked: Asked) -> None:
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    said = asked.error(*TWO, "--ray", address)
    assert f"--ray {address}: no cluster answers (Connection refused); start one with" in said


def test_a_cluster_that_is_not_there_is_refused(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**arguments: object) -> None:
        raise ConnectionError

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    assert "--ray auto: no cluster answers (ConnectionError)" in asked.error(*TWO, "--ray", "auto")
    assert spreading.require_ray() is None
