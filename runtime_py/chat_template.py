"""Messages → the text a model was trained on, by the bundle's template."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pocketlm.runtime_py.bundle import Bundle
from pocketlm.runtime_py.errors import RunError

TEMPLATE_FILE = "chat_template.jinja"
_CONFIG_FILE = "tokenizer_config.json"
# What templates take for now where a rendering is recorded or compared: not to depend on the day.
MOMENT = "2026-01-15T12:00:00"
_RENDERER = Path(__file__).with_name("template_renderer.py")

Message = Mapping[str, Any]
# Values that a template reads besides the messages, such as enable_thinking.
Variables = Mapping[str, Any]
Chat = tuple[Sequence[Message], Variables]
# "refused": the template said no to the messages. "failed": an expression of it did.
FailureKind = Literal["refused", "syntax", "stopped", "failed"]


@dataclass(frozen=True)
class RenderLimits:
    """Where a template is stopped. Honest ones stay below a hundredth of each, or of the time below
    a tenth: `verify` renders once for each backend, and nothing may take five seconds.

    Attributes:
        output_chars: of one chat.
        memory_bytes: address space of the process that renders.
        time_s: processor seconds; the clock may take fifty times as long on a busy machine.
    """

    output_chars: int = 8_000_000
    memory_bytes: int = 512 << 20
    time_s: int = 2


class TemplateError(RunError):
    """A chat that did not render.

    Attributes:
        reason: in the template's own words.
    """

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(_explained(kind, reason))
        self.kind = kind
        self.reason = reason


@dataclass(frozen=True)
class Renderings:
    """What a template made of some chats.

    Attributes:
        results: text by chat; in the place of one that failed stands its error.
        names: variables that the template reads; none are known of one that is broken or stopped.
    """

    results: tuple[str | TemplateError, ...]
    names: frozenset[str]


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template and the variables that it reads besides the messages.

    Attributes:
        special_tokens: variables such as bos_token, with their texts.
        moment: the local time that the template reads, in ISO 8601; None is the clock's. With a
            moment nothing in a rendering depends on when and where it happens.
    """

    source: str
    special_tokens: Mapping[str, str]
    limits: RenderLimits = RenderLimits()
    moment: str | None = None

    def render(self, messages: Sequence[Message], variables: Variables | None = None) -> str:
        """Return the text of one chat, ready for the model's answer.

        Raises:
            TemplateError: the template refuses the messages, is broken, or was stopped.
        """
        return self.render_all([(messages, variables or {})])[0]

    def render_all(self, chats: Sequence[Chat]) -> list[str]:
        """Render several chats in one process; raises as `render`."""
        rendered = []
        for result in self.try_all(chats).results:
            if isinstance(result, TemplateError):
                raise result
            rendered.append(result)
        return rendered

    def try_all(self, chats: Sequence[Chat]) -> Renderings:
        """Render several chats in one process, and say what the template reads."""
        defaults = {"tools": None, "documents": None, "add_generation_prompt": True}
        request = {
            "template": self.source,
            "chats": [
                {**defaults, **self.special_tokens, **variables, "messages": list(messages)}
                for messages, variables in chats
            ],
            "moment": self.moment,
            "output_limit": self.limits.output_chars,
            "memory_limit_bytes": self.limits.memory_bytes,
            "time_limit_s": self.limits.time_s,
        }
        answer = _ask_renderer(request, self.limits)
        if "error" in answer:
            error = TemplateError(answer["kind"], answer["error"])
            return Renderings((error,) * len(chats), frozenset())
        results = (
            result["text"] if "text" in result else TemplateError(result["kind"], result["error"])
            for result in answer["rendered"]
        )
        return Renderings(tuple(results), frozenset(answer["names"]))


def read_chat_template(bundle: Bundle) -> ChatTemplate | None:
    """Read the template of a bundle; None if it has none.

    Raises:
        RunError: a file is damaged.
    """
    if not bundle.has(TEMPLATE_FILE):
        return None
    config = bundle.read_object(_CONFIG_FILE) if bundle.has(_CONFIG_FILE) else {}
    return ChatTemplate(bundle.read_text(TEMPLATE_FILE), special_tokens(config))


def special_tokens(tokenizer_config: Mapping[str, Any]) -> dict[str, str]:
    """Return what templates read by name, such as bos_token, from tokenizer_config.json."""
    tokens = {}
    # Multimodal checkpoints keep names such as boi_token in an object of their own.
    extra = tokenizer_config.get("extra_special_tokens")
    named = {**tokenizer_config, **(extra if isinstance(extra, dict) else {})}
    for name, value in named.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            tokens[name] = text
    return tokens


def _ask_renderer(request: Mapping[str, Any], limits: RenderLimits) -> dict[str, Any]:
    slow = f"it took more than {limits.time_s} s of processor time"
    try:
        # -P: the script's folder holds our modules, not the renderer's.
        done = subprocess.run(
            [sys.executable, "-P", str(_RENDERER)],
            input=json.dumps(request).encode("ascii"),
            capture_output=True,
            timeout=50 * limits.time_s,
        )
    except subprocess.TimeoutExpired:
        return {"kind": "stopped", "error": slow}
    if done.returncode < 0:
        return {"kind": "stopped", "error": slow}
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last_line = (done.stderr.decode(errors="replace").strip() or "no message").splitlines()[-1]
        return {"kind": "stopped", "error": f"the renderer ended with {last_line}"}
    return answer


def _explained(kind: str, error: str) -> str:
    if kind == "refused":
        return f"the chat template refuses these messages: {error}; change them, or use --raw"
    if kind == "stopped":
        return (
            f"the chat template was stopped: {error}; do not trust this checkpoint, or use --raw, "
            "which runs no template"
        )
    what = "has a syntax error" if kind == "syntax" else "failed"
    return f"the chat template {what}: {error}; repair it in the checkpoint, or use --raw"
