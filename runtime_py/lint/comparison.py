"""Runs every reader and compares its output with our host's: differences by kind."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.lint import readers
from pocketlm.runtime_py.lint.answering import answers_of
from pocketlm.runtime_py.lint.edge_cases import (
    EdgeCaseChat,
    EdgeCaseText,
    edge_case_chats,
    edge_case_texts,
)
from pocketlm.runtime_py.lint.known_differences import What, explained
from pocketlm.runtime_py.lint.reader import Questions, Reader, ReaderOutput
from pocketlm.runtime_py.readings import ReadingDifference, Readings, RuntimeReading

REFERENCE = "pocketlm"
_LONGEST_EXAMPLE = 80
_LONGEST_REASON = 200


@dataclass(frozen=True)
class _Found:
    """One text or chat that is read otherwise.

    Attributes:
        asked: the text, or messages and variables as JSON.
        shown: what stands for it in a report.
        answered: what the runtime made of it, shortened.
    """

    what: What
    kind: str
    asked: str
    shown: str
    answered: str


def installed_readers(folder: Path, others: bool = False) -> dict[str, str]:
    """Return the readers that can read this bundle, the reference left out, with versions.

    Args:
        others: those too that run no bundles.
    """
    found = {}
    for name in readers.names():
        reader = readers.load(name)
        asked = reader.runs_bundles or others
        if name == REFERENCE or not asked or not _has_files(reader, folder):
            continue
        try:
            for distribution in reader.needs:
                version(distribution)
            found[name] = version(reader.distribution)
        except PackageNotFoundError:
            continue
    return found


def _has_files(reader: Reader, folder: Path) -> bool:
    return all((folder / file).is_file() for file in reader.files)


def read_alike(
    folder: Path,
    texts: tuple[EdgeCaseText, ...] | None = None,
    chats: tuple[EdgeCaseChat, ...] | None = None,
    expected: ReaderOutput | None = None,
    others: bool = False,
) -> Readings:
    """Ask every installed reader, and compare.

    Args:
        folder: a bundle, or what of one is there when only its text files are.
        texts, chats: what to ask; the hard ones of this package by default.
        expected: our host's answers, where they are known already.
        others: ask readers too that run no bundles.

    Raises:
        RunError: our own files cannot be read.
    """
    texts = edge_case_texts() if texts is None else texts
    chats = edge_case_chats() if chats is None else chats
    if expected is None:
        expected = answers_of(REFERENCE, folder, _questions(texts, chats))
    installed, all_chats = installed_readers(folder, others), len(chats)
    # A template that our host refused or stopped might hold another runtime for ever.
    rendered = [i for i, chat in enumerate(expected.chats) if chat is not None]
    chats = tuple(chats[i] for i in rendered)
    expected = replace(expected, chats=[expected.chats[i] for i in rendered])
    asked = _questions(texts, chats)
    with ThreadPoolExecutor(max_workers=2) as pool:
        waiting = {name: pool.submit(answers_of, name, folder, asked) for name in installed}
        readings = {}
        for name, found_version in sorted(installed.items()):
            try:
                found = list(_compare(texts, chats, expected, waiting[name].result()))
                asked_chats = all_chats if waiting[name].result().chats else 0
                grouped = _grouped(readers.load(name), found_version, found)
                reading = RuntimeReading(found_version, len(texts), asked_chats, grouped)
            except RunError as error:
                reading = _unreadable(found_version, str(error))
            readings[readers.load(name).name] = reading
    return readings


def edge_case_questions() -> Questions:
    """Return what is asked where nothing else is chosen."""
    return _questions(edge_case_texts(), edge_case_chats())


def _questions(texts: tuple[EdgeCaseText, ...], chats: tuple[EdgeCaseChat, ...]) -> Questions:
    return Questions(
        [text.text for text in texts], [(chat.messages, chat.variables) for chat in chats]
    )


def _compare(
    texts: tuple[EdgeCaseText, ...],
    chats: tuple[EdgeCaseChat, ...],
    expected: ReaderOutput,
    answers: ReaderOutput,
) -> Iterator[_Found]:
    for i, text in enumerate(texts):
        found = answers.ids[i]
        if found is None or list(found) != list(expected.ids[i] or ()):
            yield _Found("text", text.kind, text.text, text.text, f"ids {found}")
        elif text.kind != "control tokens":  # readers leave other tokens out than ours does
            decoded = answers.decoded[i]
            if decoded is not None and decoded != expected.decoded[i]:
                yield _Found("text", f"{text.kind}, decoded", text.text, text.text, decoded)
    for i, chat in enumerate(chats if answers.chats and expected.chats else ()):
        ours, theirs = expected.chats[i], answers.chats[i]
        if theirs != ours:
            answered = theirs if theirs is not None else " ".join(answers.errors)
            asked = json.dumps([chat.messages, chat.variables], ensure_ascii=False)
            yield _Found("chat", chat.kind, asked, chat.kind, answered)


def _grouped(
    reader: Reader, found_version: str, found: list[_Found]
) -> tuple[ReadingDifference, ...]:
    groups: dict[tuple[bool, str], list[_Found]] = {}
    rows = {}
    for one in found:
        row = explained(reader.known, found_version, one.what, one.asked)
        key = (row is not None, row.kind if row is not None else f"{one.what}: {one.kind}")
        groups.setdefault(key, []).append(one)
        rows[key] = row
    differences = []
    for key in sorted(groups, key=lambda key: (key[0], key[1])):
        row, group = rows[key], groups[key]
        example = min(group, key=lambda one: len(one.shown))
        differences.append(
            ReadingDifference(
                kind=key[1],
                count=len(group),
                example=_escaped(example.shown, _LONGEST_EXAMPLE),
                reason=row.reason
                if row
                else f"found {_escaped(example.answered, _LONGEST_REASON)}",
                advice=row.advice if row else "compare this kind of text on the device before use",
                known=row is not None,
            )
        )
    return tuple(differences)


def _unreadable(found_version: str, message: str) -> RuntimeReading:
    difference = ReadingDifference(
        kind="cannot be read",
        count=1,
        example="",
        reason=_escaped(message, _LONGEST_REASON),
        advice="use another runtime, or build the bundle again",
        known=False,
    )
    return RuntimeReading(found_version, 0, 0, (difference,))


def _escaped(text: str, longest: int) -> str:
    shown = ascii(text)[1:-1]
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
