"""onnxruntime-genai's tokenizer and chat templates."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime_py.lint.reader import Answers, Questions, Reader

_CONFIG = "genai_config.json"


def _answer(folder: Path, questions: Questions) -> Answers:
    import onnxruntime_genai as genai

    errors: list[str] = []
    with _config_folder(folder) as opened:
        tokenizer = genai.Tokenizer(str(opened))
    ids = [tokenizer.encode(text).tolist() for text in questions.texts]
    decoded = [str(tokenizer.decode(found)) if found else "" for found in ids]
    chats: list[str | None] = []
    for messages, variables in questions.chats if _has_template(folder) else ():
        prompt = bool(variables.get("add_generation_prompt", True))
        try:
            chats.append(_render(tokenizer, messages, prompt))
        except Exception as error:  # RuntimeError with the template engine's message
            chats.append(None)
            errors.append((str(error) or "no message").splitlines()[0])
    return Answers(ids, decoded, chats, errors[:1])


def _render(tokenizer: Any, messages: object, prompt: bool) -> str:
    text = json.dumps(messages, ensure_ascii=False)
    return str(tokenizer.apply_chat_template(text, add_generation_prompt=prompt))


def _has_template(folder: Path) -> bool:
    config = json.loads((folder / "onnx/tokenizer_config.json").read_bytes())
    return isinstance(config.get("chat_template"), str)


@contextmanager
def _config_folder(folder: Path) -> Iterator[Path]:
    """Give the bundle; while it is being built, a folder that names its tokenizer alike."""
    if (folder / _CONFIG).exists():
        yield folder
        return
    with tempfile.TemporaryDirectory() as made:
        # The runner takes "tokenizer_dir" relative to its configuration only.
        place = os.path.relpath(folder / "onnx", Path(made).resolve())
        model = {
            "type": "gemma3_text",
            "vocab_size": 1,
            "context_length": 1,
            "eos_token_id": [0],
            "pad_token_id": 0,
            "tokenizer_dir": place,
            "decoder": {"filename": "none.onnx"},
        }
        (Path(made) / _CONFIG).write_text(json.dumps({"model": model, "search": {}}))
        yield Path(made)


READER = Reader(
    "genai",
    "onnxruntime-genai",
    ("onnx/tokenizer.json", "onnx/tokenizer_config.json"),
    _answer,
)
