"""What a user gives to evaluate on, a text or conversations, and whether a model can take it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pocketlm.edge_build.calibration.text import read_text_file
from pocketlm.evaluation.passages import (
    Passage,
    chat_passages,
    limited,
    read_chats,
    text_passages,
)
from pocketlm.evaluation.subject import Subject
from pocketlm.runtime_py.errors import RunError

_DEFAULT_WINDOW = 2048


@dataclass(frozen=True)
class Source:
    """A text, or conversations in its place."""

    text: str | None
    chats: Sequence[Sequence[Mapping[str, Any]]] = ()

    @classmethod
    def read(cls, text_file: Path | None, chats_file: Path | None) -> "Source":
        """Read one of two files.

        Raises:
            BuildError: it is missing or no text.
            RunError: it holds no conversations.
        """
        if text_file is not None:
            return cls(read_text_file(text_file))
        assert chats_file is not None, "a text or chats"
        return cls(None, read_chats(chats_file))

    def passages(self, subject: Subject, window: int | None, most: int | None) -> list[Passage]:
        """Return what a subject reads.

        Args:
            window: tokens of a passage; None is 2048, or what the subject can take.
            most: measured tokens at most; None is all.

        Raises:
            RunError: the text is too short, the window too long, or there is no template.
        """
        if window is not None and window > subject.longest:
            raise RunError(
                f"--window {window}: {subject.name} takes {subject.longest} tokens at most; give "
                "that or less, or build with a larger --context"
            )
        length = window or min(_DEFAULT_WINDOW, subject.longest)
        if self.text is None:
            if subject.template is None:
                raise RunError(
                    f"--chats: {subject.name} has no chat template; give a text with --text"
                )
            found = chat_passages(self.chats, subject.template, subject.tokenizer, length)
        else:
            found = text_passages(self.text, subject.tokenizer, length)
            _refuse_short(sum(len(passage.places) for passage in found), subject, most)
        return found if most is None else limited(found, most)

    def require_same_tokens(
        self, subject: Subject, against: Subject, passages: Sequence[Passage], window: int | None
    ) -> None:
        """Compare what a subject reads with what another tokenizer makes of this.

        Raises:
            RunError: it is something else.
        """
        other = replace(subject, tokenizer=against.tokenizer)
        theirs = self.passages(other, window, None)
        for number, (ours, found) in enumerate(zip(passages, theirs, strict=False), 1):
            if found.ids[: len(ours.ids)] != ours.ids:
                pairs = enumerate(zip(ours.ids, found.ids, strict=False))
                place = next((n for n, (a, b) in pairs if a != b), len(found.ids))
                raise RunError(
                    f"--against {against.name}: its tokenizer reads the text otherwise, from token "
                    f"{place} of passage {number} on; compare with a checkpoint of the same "
                    "tokenizer"
                )


def _refuse_short(tokens: int, subject: Subject, most: int | None) -> None:
    """Refuse a text that no ring is crossed by, unless so few tokens were asked for."""
    window = subject.local_window
    if window is not None and tokens < window and (most is None or most > tokens):
        raise RunError(
            f"--text: {tokens} tokens, fewer than the {window} that local layers of {subject.name} "
            f"see, so no ring buffer wraps; give a longer text, or --tokens {tokens} to measure it "
            "all the same"
        )
