"""What was found, as frozen values and as JSON."""

from dataclasses import asdict, dataclass
from typing import Any

from pocketlm.advisor.choosing import Status
from pocketlm.advisor.limits import DeviceMemory
from pocketlm.advisor.record import Record


@dataclass(frozen=True)
class Compared:
    """One candidate.

    Attributes:
        name: recipe, method and backend.
        calibrates: whether its method needs data.
        reason: why it lost, does not fit, or cannot be built.
        is_dominated: another takes no more memory and is no further away, and is better in one.
        memory: predicted on the device, with a full context; None where it cannot be built.
        record: what was measured; None where nothing was.
    """

    name: str
    recipe: str
    method: str | None
    backend: str
    calibrates: bool
    status: Status
    reason: str = ""
    is_dominated: bool = False
    memory: DeviceMemory | None = None
    record: Record | None = None


@dataclass(frozen=True)
class Advice:
    """Which quantization to take.

    Attributes:
        tokens: that each candidate was measured on.
        rule: how the one was chosen.
        candidates: every one; those that were measured first, by memory.
        build_command: makes the chosen bundle; None where none was chosen.
        remedy: what to change where none was chosen.
        notes: what else the reader should know.
    """

    checkpoint: str
    text: str
    tokens: int
    rule: str
    candidates: tuple[Compared, ...]
    build_command: str | None
    remedy: str | None
    notes: tuple[str, ...] = ()

    @property
    def chosen(self) -> Compared | None:
        """The one to take; None where none qualifies."""
        return next((one for one in self.candidates if one.status == "chosen"), None)

    @property
    def measured(self) -> tuple[Compared, ...]:
        """The candidates that were built and measured."""
        return tuple(one for one in self.candidates if one.record is not None)

    def to_document(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"chosen": self.chosen.name if self.chosen else None, **asdict(self)}
