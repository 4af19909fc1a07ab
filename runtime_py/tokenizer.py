"""The bundle's tokenizer: text → ids, and ids → text as they arrive."""

import json
from collections.abc import Callable, Sequence
from functools import cached_property

from pocketlm.runtime_py.bundle import Bundle
from pocketlm.runtime_py.tokenizer_library import LibraryTokenizer
from pocketlm.runtime_py.utf8 import check_utf8

TOKENIZER_FILE = "tokenizer.json"

# What a decoder prints for bytes that are no character, or not yet one.
_REPLACEMENT = "\ufffd"
# Any plain letter; see TextStream.
_ANCHOR_TEXT = "a"


class TextStream:
    """Text of tokens as they arrive: never half a character, and nothing taken back.

    Tokens wait while their text ends in a replacement character, because the bytes that complete
    it may follow. They are decoded behind an anchor token, so that a decoder that strips the first
    space of a text does not strip every piece's.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], anchor: Sequence[int] = ()) -> None:
        self._decode = decode
        self._anchor = tuple(anchor)
        self._anchor_text = decode(self._anchor)
        self._waiting: list[int] = []

    def push(self, token: int) -> str:
        """Take one token; return the text that is now sure, often empty."""
        self._waiting.append(token)
        text = self._text()
        if text.endswith(_REPLACEMENT):
            return ""
        self._waiting.clear()
        return text

    def flush(self) -> str:
        """Return what still waits; bytes that never became a character are replaced."""
        text = self._text()
        self._waiting.clear()
        return text

    def _text(self) -> str:
        text = self._decode((*self._anchor, *self._waiting))
        if not text.startswith(self._anchor_text):
            return self._decode(self._waiting)
        return text[len(self._anchor_text) :]


class Tokenizer:
    """Text ↔ ids.

    Attributes:
        bos_id: what raw prompts begin with; None if nothing.
    """

    def __init__(self, tokenizer: LibraryTokenizer, bos_id: int | None) -> None:
        tokenizer.remove_limits()
        self._tokenizer = tokenizer
        self.bos_id = bos_id
        anchor = self.encode(_ANCHOR_TEXT)
        self._anchor = anchor if self.decode(anchor) == _ANCHOR_TEXT else []

    @cached_property
    def size(self) -> int:
        """Highest id it can give, plus one."""
        # Not for every reader of text: a large vocabulary takes half a second to go through.
        return 1 + max(self._tokenizer.vocabulary().values(), default=-1)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, nothing added; special tokens' texts become their ids.

        Raises:
            RunError: the text holds bytes that were not UTF-8, or the file is damaged.
        """
        check_utf8(text, "the text")
        return self._tokenizer.encode(text)

    def encode_prompt(self, text: str) -> list[int]:
        """Return the ids of a raw prompt: begins with `bos_id` exactly once, if there is one."""
        ids = self.encode(text)
        if self.bos_id is None or ids[:1] == [self.bos_id]:
            return ids
        return [self.bos_id, *ids]

    def added_tokens(self, special: bool) -> list[str]:
        """Return the texts of the added tokens that are special, or of those that are not."""
        tokens = self._tokenizer.added_tokens().values()
        return [token.content for token in tokens if token.special == special]

    def id_of(self, token: str) -> int | None:
        """Return the id of a token's text; None if there is no such token."""
        return self._tokenizer.token_to_id(token)

    def encode_as_text(self, text: str, tokens: Sequence[str]) -> list[int]:
        """Return the ids of a text in which no special token, and none of `tokens`, is a token."""
        check_utf8(text, "the text")
        ids = self._tokenizer.encode_as_text(text)
        special = self.added_tokens(special=True)
        ordinary = [token for token in tokens if token not in special]
        if {self.id_of(token) for token in ordinary}.isdisjoint(ids):
            return ids
        without = _without_added(self._tokenizer, {*special, *ordinary})
        return without.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens left out."""
        return self._tokenizer.decode(ids)

    def token(self, token_id: int) -> str:
        """Return how the vocabulary writes one id, for messages."""
        return self._tokenizer.id_to_token(token_id) or f"no token {token_id}"

    def stream(self) -> TextStream:
        """Return a stream for one answer."""
        return TextStream(self.decode, self._anchor)


def _without_added(tokenizer: LibraryTokenizer, texts: set[str]) -> LibraryTokenizer:
    """Return a tokenizer that does not look for some added tokens; other ids stay as they are."""
    document = json.loads(tokenizer.to_text())
    vocabulary = tokenizer.vocabulary(with_added_tokens=False)
    entries = []
    for entry in document["added_tokens"]:
        if entry["content"] not in texts:
            entries.append(entry)
        elif entry["content"] not in vocabulary:
            # Its place must be kept: the next ones are counted on from it.
            entries.append({**entry, "content": f"\0{entry['id']}\0"})
    document["added_tokens"] = entries
    return LibraryTokenizer.from_text(json.dumps(document), tokenizer.name)


def read_tokenizer(bundle: Bundle) -> Tokenizer:
    """Read the tokenizer of a bundle.

    Raises:
        RunError: it is missing or damaged.
    """
    tokenizer = LibraryTokenizer.from_file(bundle.path(TOKENIZER_FILE))
    return Tokenizer(tokenizer, bundle.manifest.bos_id)
