"""One candidate to build and measure, as plain values: this process does it, or another machine."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pocketlm.advisor.candidates import Candidate
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.runtime_py.typed_json import load_object, read_as

# What is measured, and how: another number measures again.
_FORMAT = 1


@dataclass(frozen=True)
class Sources:
    """The files that every candidate is made of and measured with, by absolute path and sha256."""

    checkpoint: str
    checkpoint_sha256: str
    text: str
    text_sha256: str
    calibration_text: str | None = None
    calibration_sha256: str | None = None


@dataclass(frozen=True)
class Task:
    """A candidate, and all that its figures depend on.

    Attributes:
        calibrates: whether its method reads the calibration text.
        context_length: None is what a build takes.
        tokens: of the text, that are measured at most.
        threads: that a session computes with; None is the runtime's own choice.
        build_key: of the bundle, as builds have it: checkpoint, rules, options, versions.
        bundle: folder that it is built in.
        fresh: build and measure again.
    """

    candidate: Candidate
    sources: Sources
    calibrates: bool
    context_length: int | None
    tokens: int
    threads: int | None
    build_key: str
    bundle: str
    fresh: bool = False

    @property
    def key(self) -> str:
        """The digest of all that the figures depend on."""
        determining = (_FORMAT, self.build_key, self.sources.text_sha256, self.tokens, self.threads)
        return hashlib.sha256(json.dumps(determining).encode()).hexdigest()

    @property
    def spec(self) -> BuildSpec:
        """The build of its bundle."""
        calibration = self.sources.calibration_text if self.calibrates else None
        return BuildSpec(
            checkpoint=Path(self.sources.checkpoint),
            out=Path(self.bundle),
            backends=(self.candidate.backend,),
            recipe=self.candidate.recipe,
            method=self.candidate.method,
            calibration_text=None if calibration is None else Path(calibration),
            context_length=self.context_length,
            replace=True,
            fresh=self.fresh,
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Task":
        """Read what `to_json` wrote.

        Raises:
            FieldError: it is something else.
        """
        return read_as(cls, load_object(text))


def file_sha256(path: Path) -> str:
    """Return the digest of a text file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
