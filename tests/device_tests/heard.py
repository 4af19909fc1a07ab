"""Keeps what a profile tells of its progress."""

from dataclasses import dataclass, field

from pocketlm.device_tests.profiling.pipeline import ProgressCallbacks


@dataclass
class Heard:
    """What was told of a profile's progress."""

    steps: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def told(self) -> ProgressCallbacks:
        return ProgressCallbacks(
            self.steps.append, lambda done, of, name: self.sent.append(name), self.say
        )

    def say(self, line: str) -> None:
        self.lines.append(line)
