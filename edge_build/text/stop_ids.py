"""Which tokens end an answer: what the configs say, and what ends a turn of the template."""

from collections.abc import Mapping, Sequence
from typing import Any

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.text.checkpoint_files import short
from pocketlm.edge_build.text.trial_chats import TrialChats
from pocketlm.runtime_py.tokenizer_library import LibraryTokenizer

_KEY = "eos_token_id"
_SHOWN = 40


def stop_ids_of(
    tokenizer: LibraryTokenizer,
    configs: Sequence[tuple[str, Mapping[str, Any]]],
    eos_token: str | None,
    trial: TrialChats | None,
    rows: int,
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the stop ids and notes.

    Args:
        configs: file names with their content; the first that names an id counts.
        eos_token: as the tokenizer names it; asked where no config names an id.

    Raises:
        BuildError: an id is none or has no row, or nothing would end an answer.
    """
    ids, notes = _published(configs, rows), []
    end_id, end_notes = _turn_end(tokenizer, trial, ids)
    notes += end_notes
    if (
        not ids
        and eos_token is not None
        and (named := tokenizer.token_to_id(eos_token)) is not None
    ):
        ids.append(named)
        notes.append(f"{eos_token} is the stop id: no config names an {_KEY}")
    if end_id is not None and end_id not in ids:
        ids.append(end_id)
        text = tokenizer.id_to_token(end_id)
        notes.append(f"{text} added to the stop ids: the chat template ends turns with it")
    if not ids:
        raise BuildError(
            f"neither generation_config.json nor config.json names an {_KEY}; generation would "
            "never stop; add one"
        )
    return tuple(dict.fromkeys(ids)), tuple(notes)


def _published(configs: Sequence[tuple[str, Mapping[str, Any]]], rows: int) -> list[int]:
    for file, document in configs:
        value = document.get(_KEY)
        listed = value if isinstance(value, list) else [] if value is None else [value]
        for item in listed:
            if type(item) is not int or item < 0:
                raise BuildError(
                    f"{file}: {_KEY} is {short(value)}; must be a token id or a list of them"
                )
            if item >= rows:
                raise BuildError(
                    f"{file}: {_KEY} has {item}, but the model has {rows} rows in its vocabulary, "
                    f"so it can never be generated; correct it to an id below {rows}"
                )
        if listed:
            return list(listed)
    return []


def _turn_end(
    tokenizer: LibraryTokenizer, trial: TrialChats | None, ids: Sequence[int]
) -> tuple[int | None, list[str]]:
    """Return the first control token after an assistant's text."""
    if trial is None:
        return None, []
    if trial.ending is None:
        return None, ["the chat template shows no end of a turn; only the published stop ids count"]
    added = tokenizer.added_tokens()
    found = tokenizer.encode(trial.ending)
    for token in found:
        if token in ids or (token in added and added[token].content.strip(" \t\r\n\u2581")):
            return token, []
    if trial.is_user_ending:
        return None, []
    ending = trial.ending.strip()[:_SHOWN]
    return None, [
        f"the chat template ends turns with {ending!r}, which is no token: answers may go on "
        "beyond their turn"
    ]
