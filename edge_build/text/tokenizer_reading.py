"""tokenizer.json and the tokens that stand elsewhere → one tokenizer with the model's rows.

Tokens of tokenizer_config.json, special_tokens_map.json and added_tokens.json get the ids that
transformers 5.23 gives them (TokenizersBackend.__init__).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.text.checkpoint_files import TOKENIZER, CheckpointFiles, short
from pocketlm.edge_build.text.special_tokens import SpecialTokens
from pocketlm.models.tokenizer_files import find_tokenizer
from pocketlm.runtime_py.tokenizer_library import AddedToken, LibraryTokenizer

_CONFIG, _ADDED = "tokenizer_config.json", "added_tokens.json"
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
# More names than this say nothing new.
_MOST_NAMED = 8


@dataclass(frozen=True)
class AddedTokens:
    """Added tokens as JSON objects, which take the place of tokenizer.json's own.

    Attributes:
        dropped: texts of the tokens that the model has no row for.
    """

    entries: tuple[Mapping[str, Any], ...]
    dropped: tuple[str, ...]


@dataclass(frozen=True)
class CheckpointTokenizer:
    """What the files say together.

    Attributes:
        complete: with every token, also those that the model has no row for.
        added: what the published tokenizer.json must have in place of its own added tokens; None
            where it can stay as it is.
        size: highest id with a row that it can give, plus one.
        rowless: text → id of each token that the model has no row for.
    """

    complete: LibraryTokenizer
    added: AddedTokens | None
    size: int
    rowless: Mapping[str, int]
    notes: tuple[str, ...]


def read_tokenizer(
    files: CheckpointFiles,
    tokenizer_config: Mapping[str, Any],
    added_json: Mapping[str, Any],
    special: SpecialTokens,
    rows: int,
) -> CheckpointTokenizer:
    """Read and complete the checkpoint's tokenizer.

    Args:
        added_json: content of added_tokens.json.
        rows: of the model's vocabulary.

    Raises:
        BuildError: it is missing or damaged, gives ids that the model does not have, or a token
            would get another id than its file says.
    """
    tokenizer = published_tokenizer(files)
    published = tokenizer.added_tokens()
    had_limits = tokenizer.has_limits()
    tokenizer.remove_limits()
    new = _complete(tokenizer, tokenizer_config, added_json, special, rows)
    decoder = tokenizer.added_tokens()
    rowless = _rowless(tokenizer, decoder, rows)
    added = None
    if had_limits or rowless or not _equal(decoder, published):
        entries = tuple(
            {"id": i, "content": token.content, **{f: getattr(token, f) for f in _FLAGS}}
            for i, token in sorted(decoder.items())
            if i < rows
        )
        added = AddedTokens(entries, tuple(rowless))
    notes = []
    if named := [token for token in new if token not in rowless]:
        notes.append(
            f"tokens that tokenizer.json lacks, added from files beside it: {names(named)}"
        )
    if rowless:
        notes.append(
            f"tokens without a row in the model, read as ordinary text: {names(list(rowless))}"
        )
    size = 1 + max((i for i in tokenizer.vocabulary().values() if i < rows), default=-1)
    return CheckpointTokenizer(tokenizer, added, size, rowless, tuple(notes))


def published_tokenizer(files: CheckpointFiles) -> LibraryTokenizer:
    """Return the tokenizer of tokenizer.json alone.

    Raises:
        ModelError: there is no tokenizer.
        BuildError: there is only tokenizer.model, or tokenizer.json is no text.
        TokenizerError: it is damaged.
    """
    if TOKENIZER not in files.contents:
        find_tokenizer(files.folder)
        raise BuildError(
            f"{files.folder}: tokenizer.model but no tokenizer.json, which runtimes read; convert "
            "it with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    return LibraryTokenizer.from_text(files.text(TOKENIZER), str(files.folder / TOKENIZER))


def tokenizer_json(published: str, added: AddedTokens) -> str:
    """Return the text of tokenizer.json with other added tokens and without its limits."""
    document = json.loads(published)
    document["added_tokens"] = list(added.entries)
    document["padding"] = document["truncation"] = None
    vocabulary = document["model"].get("vocab")
    if isinstance(vocabulary, dict):
        for text in added.dropped:
            vocabulary.pop(text, None)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def names(texts: Sequence[str]) -> str:
    """Return tokens as a message names them."""
    more = len(texts) - _MOST_NAMED
    return ", ".join(texts[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _complete(
    tokenizer: LibraryTokenizer,
    tokenizer_config: Mapping[str, Any],
    added_json: Mapping[str, Any],
    special: SpecialTokens,
    rows: int,
) -> list[str]:
    """Add what the other files have; return the texts that tokenizer.json lacked."""
    published = {token.content for token in tokenizer.added_tokens().values()}
    stated = _stated_tokens(tokenizer_config, added_json, special)
    # All at once: each call rebuilds the search for every added token, of which Gemma 3 has 6,415.
    tokenizer.add_tokens([token for _, token in stated])
    present = {token.content for token in tokenizer.added_tokens().values()}
    for text in (*filter(None, special.stated.values()), *special.extra):
        if text not in present:
            tokenizer.add_tokens([AddedToken(text, special=True, normalized=False)])
    for (file, index), token in stated:
        found = tokenizer.token_to_id(token.content)
        if found != index and (found is None or min(found, index) < rows):
            raise BuildError(
                f"{file}: {token.content} has the id {index} there, but after tokenizer.json it "
                f"gets {found}; tokenizer.json lacks tokens: copy it again from where the "
                "checkpoint was published"
            )
    decoder = tokenizer.added_tokens()
    return [t.content for _, t in sorted(decoder.items()) if t.content not in published]


def _stated_tokens(
    tokenizer_config: Mapping[str, Any], added_json: Mapping[str, Any], special: SpecialTokens
) -> list[tuple[tuple[str, int], AddedToken]]:
    """Return the tokens that a file lists with their ids, in order of their ids."""
    key = "added_tokens_decoder"
    found: list[tuple[tuple[str, int], AddedToken]] = []
    if key in tokenizer_config:
        listed = tokenizer_config[key]
        if not isinstance(listed, dict):
            raise BuildError(f"{_CONFIG}: {key} is {short(listed)}; must be an object")
        for index, fields in listed.items():
            found.append(((_CONFIG, _index(index, key)), _added_token(fields, index, key)))
    else:
        are_special = {*special.stated.values(), *special.extra}
        for text, index in added_json.items():
            if type(index) is not int or index < 0:
                raise BuildError(f"{_ADDED}: {text} has the id {short(index)}; must be 0 or more")
            token = AddedToken(
                text, normalized=text not in are_special, special=text in are_special
            )
            found.append(((_ADDED, index), token))
    return sorted(found, key=lambda entry: entry[0][1])


def _index(text: str, key: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise BuildError(f"{_CONFIG}: {key} has the id {short(text)}; must be a whole number")
    return int(text)


def _added_token(fields: object, index: str, key: str) -> AddedToken:
    if isinstance(fields, dict) and isinstance(fields.get("content"), str):
        flags = {name: fields[name] for name in _FLAGS if name in fields}
        if all(isinstance(flag, bool) for flag in flags.values()):
            return AddedToken(fields["content"], **flags)
    raise BuildError(
        f"{_CONFIG}: {key} has {short(fields)} as token {index}; must be an object with the "
        "token's content and its flags"
    )


def _rowless(
    tokenizer: LibraryTokenizer, decoder: Mapping[int, AddedToken], rows: int
) -> dict[str, int]:
    """Return added tokens beyond the model's table; refuse what ordinary text can reach there."""
    vocabulary = tokenizer.vocabulary()
    beyond = {text: i for text, i in vocabulary.items() if i >= rows}
    reachable = [i for i in beyond.values() if i not in decoder]
    if reachable:
        raise BuildError(
            f"tokenizer.json gives ids up to {max(reachable)}, but the model has {rows} "
            "rows in its vocabulary; tokenizer and weights do not belong together"
        )
    return dict(sorted(beyond.items(), key=lambda entry: entry[1]))


def _equal(left: Mapping[int, AddedToken], right: Mapping[int, AddedToken]) -> bool:
    return left.keys() == right.keys() and all(repr(left[i]) == repr(right[i]) for i in left)
