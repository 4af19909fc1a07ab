"""How stock runtimes read a bundle's texts against our host: a part of the manifest."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ReadingDifference:
    """Texts or chats of one kind that a runtime reads otherwise.

    Attributes:
        kind: what these texts have in common.
        count: of the texts and chats that were asked.
        example: the shortest of them, escaped; at most 80 characters.
        reason: what the runtime does; for an unknown kind, what it answered.
        advice: what an app can do.
        known: a known trait of this release.
    """

    kind: str
    count: int
    example: str
    reason: str
    advice: str
    known: bool


@dataclass(frozen=True)
class RuntimeReading:
    """What one installed runtime made of the edge-case texts and chats.

    Attributes:
        version: of the distribution that reads.
        texts, chats: how many were compared; no chats where it renders none.
    """

    version: str
    texts: int
    chats: int
    differences: tuple[ReadingDifference, ...]

    @property
    def unknown(self) -> tuple[ReadingDifference, ...]:
        return tuple(difference for difference in self.differences if not difference.known)


Readings = Mapping[str, RuntimeReading]


def reading_lines(readings: Readings) -> tuple[str, ...]:
    """Say in a line for each stock runtime how it reads the bundle's texts."""
    if not readings:
        return (
            "stock runtimes: none is installed, so nothing says how they read text; "
            "pip install pytorch_tokenizers onnxruntime-genai",
        )
    lines = []
    for name, reading in readings.items():
        known = sum(one.count for one in reading.differences if one.known)
        unknown = sum(one.count for one in reading.unknown)
        chats = f" and {reading.chats} chats" if reading.chats else ""
        found = f"{known} known differences, {unknown} unknown"
        lines.append(f"{name} {reading.version} read {reading.texts} texts{chats}: {found}")
    return tuple(lines)


def reading_notes(readings: Readings) -> tuple[str, ...]:
    """Say which stock runtimes read some texts otherwise, a note each."""
    notes = []
    for name, reading in readings.items():
        kinds = ", ".join(one.kind for one in reading.differences)
        if kinds:
            what = "some texts" if not reading.unknown else "texts in ways that are not known yet"
            notes.append(
                f"{name} {reading.version} reads {what} otherwise than the host ({kinds}); "
                "`pocketlm lint` says what an app can do"
            )
    return tuple(notes)
