"""Changes one input at a time, runs what reads it, and puts everything back."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.mutations.checking import Failure, SeenFile, Snapshot, compare, snapshot, too_long
from tests.mutations.subjects import Subject, subjects
from tests.mutations.surroundings import Surroundings, doubled_surroundings
from tests.mutations.world import TEMPORARY, make_world


@dataclass(frozen=True)
class Finding:
    """One input that was handled wrongly; `seed` and `number` make it again."""

    seed: int
    number: int
    subject: str
    failure: Failure

    def __str__(self) -> str:
        failure = self.failure
        return f"{self.subject} {self.seed}:{self.number}: {failure.kind}: {failure.detail}"


Tell = Callable[[int, Finding | None], None]


class Harness:
    """A world of inputs in a folder, and what was found by changing them."""

    def __init__(self, folder: Path) -> None:
        self.world = folder / "world"
        self.world.mkdir(parents=True)
        make_world(self.world)
        self.subjects = subjects(self.world)
        self.sound = snapshot(self.world)
        self.inputs: Counter[str] = Counter()

    def run(
        self, seed: int, numbers: range, tell: Tell = lambda number, finding: None
    ) -> list[Finding]:
        """Run the inputs of these numbers; an input depends on seed and number alone."""
        findings = []
        with doubled_surroundings(self.world / TEMPORARY) as surroundings:
            for number in numbers:
                random = Random(f"{seed}:{number}")
                subject = random.choice(self.subjects)
                failure = self.run_one(subject, random, surroundings)
                self.inputs[subject.name] += 1
                finding = failure and Finding(seed, number, subject.name, failure)
                if finding:
                    findings.append(finding)
                tell(number, finding)
        return findings

    def run_one(
        self, subject: Subject, random: Random, surroundings: Surroundings
    ) -> Failure | None:
        """Change a subject, read it, compare all files, and restore them."""
        self.change(subject, random)
        before = snapshot(self.world, self.sound)
        used_s = surroundings.processor_s
        failure = subject.read(random) or too_long(surroundings.processor_s - used_s)
        after = snapshot(self.world, before)
        self._restore(after)
        return failure or (None if subject.may_remove else compare(before, after))

    def change(self, subject: Subject, random: Random) -> None:
        """Write the changed input."""
        path = self.world / subject.path
        path.write_bytes(subject.change(path.read_bytes(), random))
        subject.follow(random)

    def _restore(self, found: Snapshot) -> None:
        for name in sorted(found.keys() - self.sound.keys(), reverse=True):
            path = self.world / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        sound = {**self.sound}
        for name, file in self.sound.items():
            if name in found and found[name].data == file.data:
                # It may have been written again, with the bytes that it had.
                sound[name] = found[name]
            elif file.data is None:
                (self.world / name).mkdir()
            else:
                (self.world / name).write_bytes(file.data)
                sound[name] = SeenFile((), file.data)
        self.sound = sound


def counted(findings: list[Finding]) -> Iterator[str]:
    """Return a line for each kind of failure, the most frequent first."""
    counts = Counter((f.failure.kind, _where(f)) for f in findings)
    first = {(f.failure.kind, _where(f)): f for f in reversed(findings)}
    for key, count in counts.most_common():
        yield f"{count:6} x {first[key]}"


def _where(finding: Finding) -> str:
    """Return what findings of one cause share."""
    failure = finding.failure
    if failure.kind == "traceback":
        return failure.detail.split(": ")[0]
    return finding.subject
