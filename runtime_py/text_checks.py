"""Holds a bundle's texts and settings against what was recorded. Computes no logits."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pocketlm.runtime_py import engines
from pocketlm.runtime_py.bundle import Bundle
from pocketlm.runtime_py.chat_template import ChatTemplate, read_chat_template
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.golden import Golden
from pocketlm.runtime_py.recorded_settings import SETTINGS, RecordedSettings, differences
from pocketlm.runtime_py.tokenizer import Tokenizer, read_tokenizer
from pocketlm.runtime_py.verification_result import Mismatch


def check_texts(bundle: Bundle, backend: str, golden: Golden) -> Iterator[Mismatch]:
    """Yield every difference in tokens, chats, stop ids, roundings and settings.

    Raises:
        RunError: the tokenizer or the recorded settings cannot be read.
    """
    entry, tokenizer = bundle.backend(backend), read_tokenizer(bundle)
    yield from _check_text(golden, tokenizer, bundle.manifest.stop_ids)
    yield from _check_chats(golden, tokenizer, read_chat_template(bundle))
    for check, expected, found in (
        ("activations", golden.activation_quantization, entry.activation_quantization),
        ("attention", golden.attention_quantization, entry.attention_quantization),
    ):
        if expected != found:
            yield Mismatch(check, backend, None, None, expected, found)
    recorded = RecordedSettings.from_json(bundle.read_text(SETTINGS))
    for setting, built, present in differences(recorded, RecordedSettings.of(bundle.manifest)):
        yield Mismatch("settings", setting, None, None, built, present)


def check_metadata(bundle: Bundle, backend: str) -> Iterator[Mismatch]:
    """Yield every setting that an artifact itself tells stock runners, and tells wrongly.

    Raises:
        RunError: the artifact cannot be loaded.
    """
    entry, tell = bundle.backend(backend), engines.load(backend).metadata_differences
    if tell is not None:
        for name, expected, found in tell(bundle.folder, bundle.manifest, entry):
            yield Mismatch("settings", f"{entry.model}: {name}", None, None, expected, found)


def _check_text(
    golden: Golden, tokenizer: Tokenizer, stop_ids: Sequence[int]
) -> Iterator[Mismatch]:
    for case in golden.tokenizer_cases:
        found = tuple(tokenizer.encode(case.text))
        if found != case.ids:
            yield Mismatch("tokenizer", repr(case.text), None, None, str(case.ids), str(found))
    if tuple(stop_ids) != golden.stop_ids:
        yield Mismatch("stop ids", "", None, None, str(golden.stop_ids), str(tuple(stop_ids)))


def _check_chats(
    golden: Golden, tokenizer: Tokenizer, template: ChatTemplate | None
) -> Iterator[Mismatch]:
    chats = golden.chat_cases
    names = [f"chat {i + 1}" for i in range(len(chats))]
    if not chats:
        return
    if template is None:
        yield Mismatch("chat", names[0], None, None, "a chat template", "none in the bundle")
        return
    try:
        template = replace(template, moment=golden.moment)
        rendered = template.render_all([(chat.messages, chat.variables) for chat in chats])
    except RunError as error:
        yield Mismatch("chat", "all chats", None, None, "rendered text", str(error))
        return
    for name, chat, text in zip(names, chats, rendered, strict=True):
        if text != chat.rendered:
            yield Mismatch("chat", name, None, None, repr(chat.rendered), repr(text))
        ids = tuple(tokenizer.encode(text))
        if ids != chat.ids:
            yield Mismatch("chat", name, None, None, str(chat.ids), str(ids))
