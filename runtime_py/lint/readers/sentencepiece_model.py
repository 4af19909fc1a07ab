"""SentencePiece itself, on the tokenizer.model that some runners load instead."""

from pathlib import Path

from pocketlm.runtime_py.lint.known_differences import KnownDifference, holds
from pocketlm.runtime_py.lint.reader import Questions, Reader, ReaderOutput

_FILE = "tokenizer.model"


def _answer(folder: Path, questions: Questions) -> ReaderOutput:
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(str(folder / _FILE))
    ids = [[int(token) for token in processor.encode(text)] for text in questions.texts]
    return ReaderOutput(ids, [str(processor.decode(found)) for found in ids])


_KNOWN = (
    KnownDifference(
        "control tokens in the text",
        ">=0.2",
        "text",
        holds(r"<[^\s>]+>"),
        "tokenizer.model reads the text of a control token as letters",
        "use tokenizer.json, or put control tokens in as ids",
    ),
)
READER = Reader("sentencepiece", "sentencepiece", (_FILE,), _answer, known=_KNOWN)
