"""A tiny checkpoint with a text, and candidates whose measuring is a double."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pocketlm.advisor.record import Machine, Record, Speed
from pocketlm.advisor.task import Task
from pocketlm.advisor.tested import Tested
from pocketlm.advisor.watch import Watch
from pocketlm.cli import main
from pocketlm.evaluation.result import EvalResult, KlNats

ROOT = Path(__file__).parents[2]

# KL and agreement of doubles; what is not named has the last.
_QUALITY = {"int8-channel": (0.01, 0.95), "int4-g32-head8": (0.05, 0.85), "": (0.2, 0.7)}
_SPEED = Speed(100.0, 10.0, 32, 8)
MACHINE = Machine("desk", "a processor", 2)


def record_of(task: Task) -> Record:
    """Return made-up figures of a task."""
    kl_nats, agreement = _QUALITY.get(task.candidate.recipe, _QUALITY[""])
    if task.candidate.method is not None:
        kl_nats, agreement = kl_nats / 2, agreement + 0.04
    kl = KlNats(kl_nats, kl_nats, kl_nats, kl_nats, kl_nats)
    evaluation = EvalResult(
        "artifact", "checkpoint", 40, 1, 9.0, 2.2, 3.0, 4.5, 100_000, kl, agreement, agreement
    )
    return Record(task.key, evaluation, 0.001, _SPEED, MACHINE, task.bundle)


@dataclass
class MeasuringDouble:
    """Measures nothing and counts.

    Attributes:
        done: names of candidates that were measured.
        before: called with a task before it is measured.
    """

    done: list[str] = field(default_factory=list)
    before: Callable[[Task], None] = lambda task: None

    def measure(self, task: Task, against: Tested, watch: Watch) -> Record:
        self.before(task)
        self.done.append(task.candidate.name)
        return record_of(task)


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> MeasuringDouble:
    """Candidates are planned, and neither built nor run."""
    double = MeasuringDouble()
    monkeypatch.setattr("pocketlm.advisor.advising.measure", double.measure)
    return double


@dataclass(frozen=True)
class Asked:
    """A command about a tiny checkpoint, with a text and a folder of its own."""

    checkpoint: Path
    text: Path
    out: Path

    def run(self, *arguments: object, code: int = 0) -> Result:
        """Run the command; `code` is its exit code."""
        words = ["advise", self.checkpoint, "--text", self.text, "--out", self.out, *arguments]
        result = CliRunner().invoke(main, list(map(str, words)))
        assert result.exit_code == code, f"{result.output}\n{result.exception}"
        return result

    def error(self, *arguments: object) -> str:
        """Return the line that is said of a mistake; nothing may be left."""
        result = self.run(*arguments, code=2)
        assert "Traceback" not in result.output
        assert not self.out.exists()
        (line,) = re.findall(r"^[Ee]rror: .*", result.stderr, re.MULTILINE)
        return str(line)


TEXT = "The quick brown fox jumps over the lazy dog. " * 20


@pytest.fixture
def asked(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Asked:
    """The command, about a checkpoint of three layers."""
    monkeypatch.setenv("POCKETLM_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    return Asked(tiny_checkpoint("gemma3_text"), text, tmp_path / "advice")


# One backend, two candidates.
TWO = ("--backend", "onnx", "--candidates", "int4-g32,int8-channel", "--tokens", 40)


@dataclass(frozen=True)
class Resumed:
    """Two candidates that were measured in earnest, by a run that was killed and one that went on.

    Attributes:
        said: by the second run, on stderr.
        document: what it printed.
    """

    asked: Asked
    said: str
    document: dict[str, Any]


@pytest.fixture(scope="session")
def resumed(
    tiny_checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Resumed:
    """Built and measured once for all tests that only look."""
    folder = tmp_path_factory.mktemp("advise")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    asked = Asked(tiny_checkpoint("gemma3_text"), folder / "text.txt", folder / "advice")
    words = ["advise", asked.checkpoint, "--text", asked.text, "--out", asked.out, *TWO]
    environment = {"POCKETLM_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "pocketlm", *map(str, words)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("quantize: done") and (asked.out / "measured").exists():
                process.send_signal(signal.SIGKILL)
                break
        process.stderr.read()
    assert process.wait() == -signal.SIGKILL
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POCKETLM_CACHE", environment["POCKETLM_CACHE"])
        again = asked.run(*TWO, "--json")
    return Resumed(asked, again.stderr, json.loads(again.stdout))
