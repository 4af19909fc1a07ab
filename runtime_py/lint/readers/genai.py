"""onnxruntime-genai's tokenizer and chat templates."""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from pocketlm.runtime_py.chat_template import MOMENT
from pocketlm.runtime_py.lint.reader import Answers, Questions, Reader

_CONFIG = "genai_config.json"
_CLOCK = "strftime_now"
_PATTERNS = re.compile(_CLOCK + r"""\(\s*['"]([^'"\\]*)['"]""")


def _answer(folder: Path, questions: Questions) -> Answers:
    import onnxruntime_genai as genai

    errors: list[str] = []
    with _config_folder(folder) as opened:
        tokenizer = genai.Tokenizer(str(opened))
    ids = [tokenizer.encode(text).tolist() for text in questions.texts]
    decoded = [str(tokenizer.decode(found)) if found else "" for found in ids]
    chats: list[str | None] = []
    template = _template(folder)
    for messages, variables in questions.chats if template is not None else ():
        prompt = bool(variables.get("add_generation_prompt", True))
        try:
            chats.append(_render(tokenizer, template, messages, prompt))
        except Exception as error:  # RuntimeError with the template engine's message
            chats.append(None)
            errors.append((str(error) or "no message").splitlines()[0])
    return Answers(ids, decoded, chats, errors[:1])


def _render(tokenizer: Any, template: str | None, messages: object, prompt: bool) -> str:
    text = json.dumps(messages, ensure_ascii=False)
    options: dict[str, Any] = {"add_generation_prompt": prompt}
    # Its own way to the template unless that reads the clock.
    if template is not None and _CLOCK in template:
        options["template_str"] = _stopped_clock(template) + template
    return str(tokenizer.apply_chat_template(text, **options))


def _template(folder: Path) -> str | None:
    config = json.loads((folder / "onnx/tokenizer_config.json").read_bytes())
    template = config.get("chat_template")
    return template if isinstance(template, str) else None


def _stopped_clock(template: str) -> str:
    """Return a macro in the place of the engine's clock, which cannot be set."""
    moment = datetime.fromisoformat(MOMENT)
    # A pattern that the template puts together is shown as it is: no date gets into a report.
    shown = "{{- pattern -}}"
    for pattern in sorted(set(_PATTERNS.findall(template))):
        condition = f"{{%- if pattern == {json.dumps(pattern)} -%}}"
        shown = f"{condition}{moment.strftime(pattern)}{{%- else -%}}{shown}{{%- endif -%}}"
    return f"{{%- macro {_CLOCK}(pattern) -%}}{shown}{{%- endmacro %}}"


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
