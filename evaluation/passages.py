"""Text or chats → the tokens that are measured, in passages that each begin with empty caches."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pocketlm.edge_build.calibration.text import read_text_file
from pocketlm.runtime_py.chat_template import ChatTemplate, TemplateError
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.tokenizer import Tokenizer


@dataclass(frozen=True)
class Passage:
    """Tokens that are read from empty caches.

    Attributes:
        ids: begin with BOS where the model has one.
        places: of the tokens that are predicted and measured, ascending; never 0.
        goes_on: whether its text goes on where that of the passage before ended.
    """

    ids: tuple[int, ...]
    places: tuple[int, ...]
    goes_on: bool = False

    @property
    def targets(self) -> tuple[int, ...]:
        """The tokens at `places`."""
        return tuple(self.ids[place] for place in self.places)


def text_passages(text: str, tokenizer: Tokenizer, window: int) -> list[Passage]:
    """Cut a text into passages of at most `window` tokens; all tokens but the first are measured.

    Raises:
        RunError: the text is empty.
    """
    ids = tokenizer.encode_prompt(text)
    first = ids[:1] if ids[:1] == [tokenizer.bos_id] else []
    rest = ids[len(first) :]
    step = window - len(first)
    if step < 1:
        raise RunError(f"--window {window}: a passage needs at least 2 tokens")
    parts = [(*first, *rest[start : start + step]) for start in range(0, len(rest), step)]
    found = [
        Passage(part, tuple(range(1, len(part))), goes_on=number > 0)
        for number, part in enumerate(parts)
        if len(part) > 1
    ]
    if not found:
        raise RunError("--text: the text is empty; there is nothing to predict")
    return found


def chat_passages(
    chats: Sequence[Sequence[Mapping[str, Any]]],
    template: ChatTemplate,
    tokenizer: Tokenizer,
    window: int,
) -> list[Passage]:
    """Render each conversation; the tokens of the assistant's turns are measured.

    A turn begins where the template asks for an answer, and ends with what it writes after it.
    What is longer than `window` tokens is cut at its end.

    Raises:
        RunError: the template refuses a conversation, or none has an assistant's turn.
    """
    found, beyond = [], 0
    for number, messages in enumerate(chats, 1):
        try:
            passage = _conversation(messages, template, tokenizer)
        except TemplateError as error:
            does = "refuses it" if error.kind == "refused" else "fails on it"
            raise RunError(
                f"--chats: conversation {number}: the chat template {does}: {error.reason}"
            ) from error
        places = tuple(place for place in passage.places if place < window)
        beyond += len(passage.places) - len(places)
        if places:
            found.append(Passage(passage.ids[:window], places))
    if not found and beyond:
        raise RunError(
            f"--chats: every assistant's turn comes after {window} tokens; give shorter "
            "conversations or a larger --window"
        )
    if not found:
        raise RunError(
            "--chats: no conversation has an assistant's turn to measure; add messages with "
            '"role": "assistant"'
        )
    return found


def _conversation(
    messages: Sequence[Mapping[str, Any]], template: ChatTemplate, tokenizer: Tokenizer
) -> Passage:
    whole = tokenizer.encode(template.render(messages, {"add_generation_prompt": False}))
    turns = [place for place, message in enumerate(messages) if message.get("role") == "assistant"]
    asked = template.render_all([(messages[:turn], {}) for turn in turns])
    answered = template.render_all(
        [(messages[: turn + 1], {"add_generation_prompt": False}) for turn in turns]
    )
    places: list[int] = []
    for before, after in zip(asked, answered, strict=True):
        start = _common(tokenizer.encode(before), whole)
        stop = _common(tokenizer.encode(after), whole)
        places += range(max(1, start), stop)
    return Passage(tuple(whole), tuple(sorted(set(places))))


def _common(ids: Sequence[int], whole: Sequence[int]) -> int:
    """Return how many tokens both begin with."""
    pairs = enumerate(zip(ids, whole, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(ids), len(whole)))


def limited(passages: Sequence[Passage], most: int) -> list[Passage]:
    """Return passages in which the first `most` measured tokens are left."""
    found = []
    for passage in passages:
        places = passage.places[:most]
        if not places:
            break
        found.append(replace(passage, ids=passage.ids[: places[-1] + 1], places=places))
        most -= len(places)
    return found


def read_chats(path: Path) -> list[list[dict[str, Any]]]:
    """Read conversations, one JSON object with `messages` a line.

    Raises:
        RunError: a line is none.
    """
    return list(_chats(path))


def _chats(path: Path) -> Iterator[list[dict[str, Any]]]:
    lines = read_text_file(path).split("\n")
    if not any(line.strip() for line in lines):
        raise RunError(f"{path}: empty; give a JSON object with messages in each line")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}, line {number}: not JSON: {error}") from error
        messages = document.get("messages") if isinstance(document, dict) else None
        if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
            raise RunError(
                f'{path}, line {number}: needs "messages", a list of objects with "role", a '
                'string, and "content", a string or a list'
            )
        try:
            json.dumps(messages, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise RunError(
                f"{path}, line {number}: holds half of a character (a lone surrogate)"
            ) from error
        yield messages


def _is_message(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("role"), str)
        and isinstance(value.get("content"), str | list)
    )
