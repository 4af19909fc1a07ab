"""Builds what a system loads, once: measures the build and reuses it while its inputs are the same.

Beside ARTIFACT stands ARTIFACT.build.json with what building cost.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.processes import ROOT, Guard, run, say
from benchmarks.systems.system import System


@dataclass(frozen=True)
class BuildStep:
    """What one command of a build cost."""

    command: str
    wall_s: float
    peak_bytes: int
    busy: bool


@dataclass(frozen=True)
class BuildRecord:
    """What building an artifact cost.

    Attributes:
        inputs: digest of everything that it was made from.
        file_bytes: of all files that stay.
    """

    inputs: str
    steps: tuple[BuildStep, ...]
    file_bytes: int

    @property
    def wall_s(self) -> float:
        return sum(step.wall_s for step in self.steps)

    @property
    def peak_bytes(self) -> int:
        return max((step.peak_bytes for step in self.steps), default=0)

    @classmethod
    def read(cls, path: Path) -> "BuildRecord":
        fields = json.loads(path.read_text())
        steps = tuple(BuildStep(**step) for step in fields["steps"])
        return cls(fields["inputs"], steps, fields["file_bytes"])


@dataclass(frozen=True)
class Reuse:
    """When an artifact that is there is built again.

    Attributes:
        always: build it again in any case.
        stale: keep it even if its inputs changed.
    """

    always: bool = False
    stale: bool = False


def build(system: System, checkpoint: Path, guard: Guard, reuse: Reuse) -> BuildRecord:
    """Return the record of a system's artifact, building it if need be.

    Raises:
        SuiteError: a command of the build fails.
    """
    inputs = digest_inputs(system, checkpoint)
    if not system.build:
        return BuildRecord(inputs, (), tree_bytes(system.artifact))
    record_path = record_of(system.artifact)
    if system.artifact.exists() and record_path.exists() and not reuse.always:
        record = BuildRecord.read(record_path)
        if record.inputs == inputs:
            return record
        if reuse.stale:
            say(f"{system.name}: reused although its inputs have changed (--stale)")
            return record
    record_path.unlink(missing_ok=True)
    system.artifact.parent.mkdir(parents=True, exist_ok=True)
    _remove(system.artifact)
    steps = []
    for command in system.build:
        say(f"{system.name}: {readable(command)}")
        done = run(command, guard)
        steps.append(
            BuildStep(
                readable(command), round(done.wall_s, 1), done.peak_bytes, done.quietness.is_busy
            )
        )
    for leftover in system.leftovers:
        _remove(leftover)
    record = BuildRecord(inputs, tuple(steps), tree_bytes(system.artifact))
    record_path.write_text(json.dumps(asdict(record), indent=1) + "\n")
    return record


def record_of(artifact: Path) -> Path:
    """Return where an artifact's build record stands."""
    return artifact.with_name(artifact.name + ".build.json")


def readable(command: Sequence[str]) -> str:
    """Return a command without this machine's paths."""
    first, *rest = command
    return " ".join([Path(first).name, *(part.replace(f"{ROOT}/", "") for part in rest)])


def digest_inputs(system: System, checkpoint: Path) -> str:
    """Return a digest of commands, sources, and the checkpoint's files by name, size and time."""
    digest = hashlib.sha256("\n".join(map(readable, system.build)).encode())
    for path in sorted(checkpoint.iterdir()):
        status = path.stat()
        digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}".encode())
    for folder in system.sources:
        for path in sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def tree_bytes(path: Path) -> int:
    """Return the bytes of a file, or of every file below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
