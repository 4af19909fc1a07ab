"""SentencePiece itself, on the tokenizer.model that some runners load instead."""

from pathlib import Path

from pocketlm.runtime_py.lint.reader import Answers, Questions, Reader

_FILE = "tokenizer.model"


def _answer(folder: Path, questions: Questions) -> Answers:
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(str(folder / _FILE))
    ids = [[int(token) for token in processor.encode(text)] for text in questions.texts]
    return Answers(ids, [str(processor.decode(found)) for found in ids])


READER = Reader("sentencepiece", "sentencepiece", (_FILE,), _answer)
