"""What the suite has to know of a system: how its file is made and which worker measures it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Target:
    """What all systems are built for in one run.

    Attributes:
        work: folder of checkpoints and artifacts.
        context_length: positions that caches hold.
    """

    shape: str
    work: Path
    context_length: int

    @property
    def checkpoint(self) -> Path:
        return self.work / self.shape

    def artifact(self, name: str) -> Path:
        """Return the path of an artifact of this shape."""
        return self.work / f"{self.shape}.{name}"


@dataclass(frozen=True)
class System:
    """One system under test.

    Attributes:
        name: on the command line and in results.
        title: in tables.
        contains: what is inside its figures and inside nobody else's, or the other way round.
        python: interpreter of its environment.
        worker: module that measures it.
        artifact: what it loads.
        build: commands that make the artifact, in order; none if the checkpoint itself is it.
        sources: files and folders whose change makes the artifact stale.
        leftovers: files of the build that are no part of the artifact.
        settings: passed to the worker.
        most_rounds: None measures it in every round.
        depth_settings: passed too when long contexts are measured.
    """

    name: str
    title: str
    contains: str
    python: Path
    worker: str
    artifact: Path
    build: tuple[tuple[str, ...], ...]
    sources: tuple[Path, ...] = ()
    leftovers: tuple[Path, ...] = ()
    most_rounds: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    depth_settings: Mapping[str, str] = field(default_factory=dict)
