"""ExecuTorch's C++ tokenizer, which its text runners and LlmModule use. It renders no chats."""

from pathlib import Path

from pocketlm.runtime_py.lint.reader import Answers, Questions, Reader

_FILE = "executorch/tokenizer.json"


def _answer(folder: Path, questions: Questions) -> Answers:
    from pytorch_tokenizers import CppHFTokenizer

    tokenizer = CppHFTokenizer()
    tokenizer.load(str(folder / _FILE))
    ids, decoded = [], []
    for text in questions.texts:
        found = [int(token) for token in tokenizer.encode(text)]
        ids.append(found)
        decoded.append(_decoded(tokenizer.decode, found))
    return Answers(ids, decoded)


def _decoded(decode: object, ids: list[int]) -> str | None:
    try:
        return "".join(decode(token, False) for token in ids)  # type: ignore[operator]
    except UnicodeDecodeError:
        # A token with a part of a character: only the binding cannot return it.
        return None


READER = Reader("executorch", "pytorch_tokenizers", (_FILE,), _answer)
