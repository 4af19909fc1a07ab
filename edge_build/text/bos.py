"""Which token a raw prompt begins with: what the tokenizer's post-processor puts there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pocketlm.edge_build.errors import BuildError
from pocketlm.runtime_py.tokenizer_library import LibraryTokenizer

_PROBE = "a"


@dataclass(frozen=True)
class Bos:
    """The begin of a raw prompt; None if there is none."""

    id: int | None
    notes: tuple[str, ...] = ()


def bos_of(
    tokenizer: LibraryTokenizer,
    tokenizer_config: Mapping[str, Any],
    bos_token: str | None,
    rows: int,
) -> Bos:
    """Ask the tokenizer; numbers in configs do not count.

    The post-processor decides, as in transformers 5.23. Where it adds nothing but
    tokenizer_config.json says add_bos_token, the named token is added, as in earlier versions and
    in llama.cpp: a model that was trained with BOS writes nonsense without it.

    Args:
        tokenizer: without padding and truncation.
        bos_token: as the tokenizer names it.

    Raises:
        BuildError: it puts several tokens there, or one without a row.
    """
    before, after = _around(tokenizer)
    notes: list[str] = []
    asked = tokenizer_config.get("add_bos_token")
    if not before and asked is True:
        before, notes = _as_asked(tokenizer, bos_token)
    if len(before) > 1:
        raise BuildError(
            f"tokenizer.json begins every text with {_texts(tokenizer, before)}; pocketlm begins "
            "prompts with one token at most; take the others out of its post_processor"
        )
    if before and before[0] >= rows:
        raise BuildError(
            f"tokenizer.json begins every text with {_texts(tokenizer, before)}, id {before[0]}, "
            f"but the model has {rows} rows in its vocabulary; tokenizer and weights do not "
            "belong together"
        )
    if before and asked is False:
        notes.append(
            "tokenizer_config.json says add_bos_token false, but tokenizer.json begins texts with "
            f"{_texts(tokenizer, before)}: it is added, as in transformers"
        )
    if after:
        notes.append(
            f"tokenizer.json ends every text with {_texts(tokenizer, after)}, left out: prompts "
            "are continued"
        )
    return Bos(before[0] if before else None, tuple(notes))


def _around(tokenizer: LibraryTokenizer) -> tuple[list[int], list[int]]:
    """Return what the post-processor puts before and after a text."""
    plain = tokenizer.encode(_PROBE)
    whole = tokenizer.encode(_PROBE, add_special_tokens=True)
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    return [], []


def _as_asked(tokenizer: LibraryTokenizer, bos_token: str | None) -> tuple[list[int], list[str]]:
    found = None if bos_token is None else tokenizer.token_to_id(bos_token)
    if found is None:
        return [], ["tokenizer_config.json says add_bos_token, but no file names a bos_token"]
    note = (
        f"{bos_token} begins prompts as tokenizer_config.json says (add_bos_token); tokenizer.json "
        "alone would not add it"
    )
    return [found], [note]


def _texts(tokenizer: LibraryTokenizer, ids: Sequence[int]) -> str:
    return " ".join(str(tokenizer.id_to_token(i)) for i in ids)
