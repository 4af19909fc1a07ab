"""ExecuTorch's C++ tokenizer, which its text runners and LlmModule use. It renders no chats."""

from pathlib import Path

from pocketlm.runtime_py.lint.known_differences import (
    NFC_ADVICE,
    KnownDifference,
    holds,
    is_not_nfc,
)
from pocketlm.runtime_py.lint.reader import Questions, Reader, ReaderOutput

_FILE = "executorch/tokenizer.json"


def _answer(folder: Path, questions: Questions) -> ReaderOutput:
    from pytorch_tokenizers import CppHFTokenizer

    tokenizer = CppHFTokenizer()
    tokenizer.load(str(folder / _FILE))
    ids, decoded = [], []
    for text in questions.texts:
        found = [int(token) for token in tokenizer.encode(text)]
        ids.append(found)
        decoded.append(_decoded(tokenizer.decode, found))
    return ReaderOutput(ids, decoded)


def _decoded(decode: object, ids: list[int]) -> str | None:
    try:
        return "".join(decode(token, False) for token in ids)  # type: ignore[operator]
    except UnicodeDecodeError:
        # A token with a part of a character: only the binding cannot return it.
        return None


_KNOWN = (
    KnownDifference(
        "text that is not NFC",
        ">=1.5,<1.6",
        "text",
        is_not_nfc,
        "its NFC normalizer drops combining marks, so executorch/tokenizer.json has none",
        NFC_ADVICE,
    ),
    KnownDifference(
        "text that holds U+2581",
        ">=1.5,<1.6",
        "text",
        holds("\u2581"),
        "runs of spaces are merged there, not added tokens, so U+2581 merges with spaces",
        "replace U+2581 by a space in what users type",
    ),
    KnownDifference(
        "text that spells a byte token",
        ">=1.5,<1.6",
        "text",
        holds(r"^<0x[0-9A-F]{2}>$"),
        "a whole piece is looked up in the vocabulary before merging",
        "put a space before such a text",
    ),
)
READER = Reader("executorch", "pytorch_tokenizers", (_FILE,), _answer, known=_KNOWN)
