"""The tokens that a model is calibrated on: of the user's text, or of one that is built in."""

from pathlib import Path

from pocketlm.edge_build.calibration.measured import Sequences
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.golden_texts import LONG_TEXT, TOKENIZER_TEXTS
from pocketlm.edge_build.prompts import open_tokenizer
from pocketlm.edge_build.spec import DEFAULT_CALIBRATION_TOKENS, FEWEST_CALIBRATION_TOKENS
from pocketlm.edge_build.text_files import TextFiles

BUILT_IN_TOKENS = 512
_LONGEST_SEQUENCE = 2048
_TOKEN_CHARACTERS = 64


def built_in_sequences(text: TextFiles, context_length: int) -> Sequences:
    """Return a chat, if the model has any, then prose, code and other scripts."""
    tokenizer = open_tokenizer(text)
    built_in = "\n".join((LONG_TEXT, *TOKENIZER_TEXTS))
    if text.chats:
        ids = [*text.chats[0].ids, *tokenizer.encode(built_in)]
    else:
        ids = tokenizer.encode_prompt(built_in)
    return (tuple(ids[: min(BUILT_IN_TOKENS, context_length)]),)


def text_sequences(
    path: Path, text: TextFiles, context_length: int, most: int = DEFAULT_CALIBRATION_TOKENS
) -> Sequences:
    """Return the first tokens of a file, in sequences that each begin with BOS if there is one.

    Args:
        most: tokens, of which BOS of the first sequence is one.

    Raises:
        BuildError: the file is missing, no text, or too short.
    """
    tokenizer = open_tokenizer(text)
    # More characters than so many tokens have, and not all of a long book.
    ids = tokenizer.encode_prompt(read_text_file(path)[: _TOKEN_CHARACTERS * most])
    first = tuple(ids[:1]) if ids[:1] == [tokenizer.bos_id] else ()
    rest = ids[len(first) : most]
    # BOS is one of them, but not one that an empty file would have.
    if len(rest) < FEWEST_CALIBRATION_TOKENS - len(first):
        raise BuildError(
            f"--calibrate {path}: {len(rest)} tokens; calibration needs "
            f"{FEWEST_CALIBRATION_TOKENS} or more, and is better with 4,096: give a longer text"
        )
    step = max(1, min(_LONGEST_SEQUENCE, context_length) - len(first))
    return tuple((*first, *rest[start : start + step]) for start in range(0, len(rest), step))


def read_text_file(path: Path) -> str:
    """Read a text file.

    Raises:
        BuildError: it is missing, or not text in UTF-8.
    """
    try:
        # Some editors begin a file with a byte order mark, which is no part of the text.
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BuildError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise BuildError(
            f"{path}: not text in UTF-8 (byte {error.start}); convert it, as with iconv -t UTF-8"
        ) from error
    if "\0" in text:
        raise BuildError(f"{path}: holds NUL characters, so it is no text; give a text file")
    return text
