"""The `tokenizers` library; what it fails at becomes our error. Only this module calls it in a
process that must not end with it.

It is written in Rust, and what it did not foresee in a file is a panic, which is no Exception.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import tokenizers

from pocketlm.runtime_py.errors import RunError

T = TypeVar("T")

AddedToken = tokenizers.AddedToken
_LONGEST_REASON = 200
# Ids are so wide there; what is wider names no token.
_LARGEST_ID = 2**32 - 1


class TokenizerError(RunError):
    """The library fails on a tokenizer file."""


class LibraryTokenizer:
    """One tokenizer of the library. Methods are called as there, and give ids as lists.

    Every method raises TokenizerError where the library fails on the file.

    Attributes:
        name: of the file, for messages.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, name: str = "tokenizer.json") -> None:
        self._tokenizer = tokenizer
        self.name = name

    @classmethod
    def from_file(cls, path: Path) -> "LibraryTokenizer":
        """Read a file.

        Raises:
            TokenizerError: it is missing, damaged, or of a kind that the library does not know.
        """
        return cls(_read(lambda: tokenizers.Tokenizer.from_file(str(path)), str(path)), str(path))

    @classmethod
    def from_text(cls, text: str, name: str = "tokenizer.json") -> "LibraryTokenizer":
        """Read the text of a file; raises as `from_file`."""
        return cls(_read(lambda: tokenizers.Tokenizer.from_str(text), name), name)

    def to_text(self) -> str:
        return self._do("written", self._tokenizer.to_str)

    def has_limits(self) -> bool:
        """Say whether the file pads or cuts texts."""
        return self._tokenizer.padding is not None or self._tokenizer.truncation is not None

    def remove_limits(self) -> None:
        """Take off what training leaves in files: it would cut or pad prompts."""
        self._do("used", self._tokenizer.no_truncation)
        self._do("used", self._tokenizer.no_padding)

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        return self._do(
            "used to read a text",
            lambda: list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids),
        )

    def encode_as_text(self, text: str) -> list[int]:
        """Return ids of a text in which no special token is a token."""
        self._tokenizer.encode_special_tokens = True
        try:
            return self.encode(text)
        finally:
            self._tokenizer.encode_special_tokens = False

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens left out."""
        return self._do(
            "used to write a text",
            lambda: str(self._tokenizer.decode(list(ids), skip_special_tokens=True)),
        )

    def token_to_id(self, token: str) -> int | None:
        found: int | None = self._do("used", lambda: self._tokenizer.token_to_id(token))
        return found

    def id_to_token(self, token_id: int) -> str | None:
        if not 0 <= token_id <= _LARGEST_ID:
            return None
        found: str | None = self._do("used", lambda: self._tokenizer.id_to_token(token_id))
        return found

    def vocabulary(self, *, with_added_tokens: bool = True) -> dict[str, int]:
        return self._do(
            "used", lambda: dict(self._tokenizer.get_vocab(with_added_tokens=with_added_tokens))
        )

    def added_tokens(self) -> Mapping[int, AddedToken]:
        """Return the added tokens by their ids."""
        return self._do("used", lambda: dict(self._tokenizer.get_added_tokens_decoder()))

    def add_tokens(self, tokens: Sequence[AddedToken]) -> None:
        self._do("given more tokens", lambda: self._tokenizer.add_tokens(list(tokens)))

    def _do(self, what: str, work: Callable[[], T]) -> T:
        try:
            return work()
        except BaseException as error:
            if not _is_the_librarys(error):
                raise
            raise TokenizerError(
                f"{self.name}: cannot be {what}: the tokenizers library fails ({_reason(error)}); "
                "take the file that was published with the weights"
            ) from error


def _read(work: Callable[[], T], name: str) -> T:
    try:
        return work()
    except BaseException as error:
        if not isinstance(error, Exception) and not _is_the_librarys(error):
            raise
        raise TokenizerError(
            f"{name}: cannot be read as a tokenizer ({_reason(error)}); copy it again from where "
            "it was published"
        ) from error


def _is_the_librarys(error: BaseException) -> bool:
    """Say whether the library raised this about a file: a plain Exception, or a panic."""
    # pyo3, which joins Rust to Python, makes a class for panics that nobody can import.
    return type(error) is Exception or type(error).__name__ == "PanicException"


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:_LONGEST_REASON]
