"""What the code of an app must know of a bundle, beside its files."""

from collections.abc import Mapping
from dataclasses import dataclass

from pocketlm.runtime_py.bundle import Bundle
from pocketlm.runtime_py.chat_template import read_chat_template
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.tokenizer import read_tokenizer

# Stands in `chat_prompt` where an app puts what its user typed.
PLACEHOLDER = "{prompt}"
_ATTENTION = "ORT_GQA_DISABLE_FLASH_ATTENTION"


@dataclass(frozen=True)
class AppFacts:
    """Numbers and texts for an app's code.

    Attributes:
        bos_id: what every prompt begins with, once; None if nothing.
        stop_tokens: texts of the stop ids, which some runners hand to the app.
        chat_prompt: one turn of a chat around PLACEHOLDER, without BOS; None without a template.
        least_max_length: of onnxruntime-genai: its caches are never shorter than the window.
        rewind_tokens: how far back a session may always go; None is any distance.
        environment: variables to set before the model is loaded.
    """

    context_length: int
    prefill_chunk: int
    bos_id: int | None
    stop_ids: tuple[int, ...]
    stop_tokens: tuple[str, ...]
    chat_prompt: str | None
    least_max_length: int
    rewind_tokens: int | None
    least_versions: Mapping[str, str]
    environment: Mapping[str, str]


def app_facts(bundle: Bundle, backend: str) -> AppFacts:
    """Read them from a bundle.

    Raises:
        RunError: it has no such backend, or its tokenizer or template cannot be used.
    """
    manifest, entry = bundle.manifest, bundle.backend(backend)
    tokenizer = read_tokenizer(bundle)
    bos = "" if manifest.bos_id is None else tokenizer.token(manifest.bos_id)
    return AppFacts(
        context_length=manifest.context_length,
        prefill_chunk=manifest.prefill_chunk,
        bos_id=manifest.bos_id,
        stop_ids=manifest.stop_ids,
        stop_tokens=tuple(map(tokenizer.token, manifest.stop_ids)),
        chat_prompt=_chat_prompt(bundle, bos),
        least_max_length=max((cache.window or 1 for cache in entry.caches), default=1),
        rewind_tokens=entry.rewind_tokens,
        least_versions=dict(entry.runtime_floor),
        environment={_ATTENTION: "1"} if entry.options.get("attention") == "unfused" else {},
    )


def _chat_prompt(bundle: Bundle, bos: str) -> str | None:
    template = read_chat_template(bundle)
    if template is None:
        return None
    try:
        text = template.render([{"role": "user", "content": PLACEHOLDER}])
    except RunError:
        return None  # It wants more than one plain message; an app has to know what.
    return text.removeprefix(bos)
