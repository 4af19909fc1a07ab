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
from pocketlm.runtime_py.lint.known_differences import (
    NFC_ADVICE,
    RENDER_ADVICE,
    KnownDifference,
    holds,
    is_not_nfc,
)
from pocketlm.runtime_py.lint.reader import Questions, Reader, ReaderOutput

_CONFIG = "genai_config.json"
_CLOCK = "strftime_now"
_PATTERNS = re.compile(_CLOCK + r"""\(\s*['"]([^'"\\]*)['"]""")


def _answer(folder: Path, questions: Questions) -> ReaderOutput:
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
    return ReaderOutput(ids, decoded, chats, errors[:1])


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
        relative = os.path.relpath(folder / "onnx", Path(made).resolve())
        model = {
            "type": "gemma3_text",
            "vocab_size": 1,
            "context_length": 1,
            "eos_token_id": [0],
            "pad_token_id": 0,
            "tokenizer_dir": relative,
            "decoder": {"filename": "none.onnx"},
        }
        (Path(made) / _CONFIG).write_text(json.dumps({"model": model, "search": {}}))
        yield Path(made)


_KNOWN = (
    KnownDifference(
        "text that is not NFC",
        ">=0.18,<0.19",
        "text",
        is_not_nfc,
        "it does not normalize",
        NFC_ADVICE,
    ),
    KnownDifference(
        "text with NUL",
        ">=0.18,<0.19",
        "text",
        holds("\0"),
        "NUL ends the text",
        "take NUL out of what users type",
    ),
    KnownDifference(
        "text that holds U+2581",
        ">=0.18,<0.19",
        "text",
        holds("\u2581"),
        "runs of spaces are merged there, not added tokens, so U+2581 merges with spaces",
        "replace U+2581 by a space in what users type",
    ),
    KnownDifference(
        "32 or more spaces in a row",
        ">=0.18,<0.19",
        "text",
        holds(r" {32,}"),
        "long runs of spaces are cut before merging",
        "the text stays the same, in other tokens; indent with fewer spaces or tabs",
    ),
    KnownDifference(
        "long text without a space or line break",
        ">=0.18,<0.19",
        "text",
        holds(r"[^ \n]{90,}"),
        "such text is cut near 100 characters, and merges across the cut are lost",
        "the text stays the same, in other tokens; tokenize with another library if it matters",
    ),
    KnownDifference(
        "line breaks between white space",
        ">=0.18,<0.19",
        "text",
        holds(r"\n[ \t]+\n"),
        "its own form of the pre-tokenizer's expression cuts behind the first line break",
        "the text stays the same, in other tokens; strip white space at the ends of lines",
    ),
    KnownDifference(
        "runs of punctuation or carriage returns",
        ">=0.18,<0.19",
        "text",
        holds(r"[^\w\s]{2,}|\r"),
        "text is cut into pieces before merging where the tokenizer has no pre-tokenizer",
        "the text stays the same, in other tokens; tokenize with another library if it matters",
    ),
    KnownDifference(
        "chat with variables, such as enable_thinking",
        ">=0.18,<0.19",
        "chat",
        holds(r'"enable_thinking"'),
        "its binding passes no variables to the template",
        RENDER_ADVICE,
    ),
    KnownDifference(
        "chat with U+00A0, U+2028 or U+3000 around a message",
        ">=0.18,<0.19",
        "chat",
        holds(r"[\u00a0\u2028\u3000]"),
        "`trim` leaves white space that is not ASCII",
        f"strip messages first, or {RENDER_ADVICE}",
    ),
)
READER = Reader(
    "genai",
    "onnxruntime-genai",
    ("onnx/tokenizer.json", "onnx/tokenizer_config.json"),
    _answer,
    known=_KNOWN,
)
