"""Texts → token ids for what a build runs itself: golden answers and calibration."""

import tokenizers

from edge_build.golden_texts import CHATS, LONG_TEXT, SYSTEM_CHAT
from edge_build.text_files import TextFiles
from runtime_py.chat_template import ChatTemplate
from runtime_py.errors import RunError
from runtime_py.golden import ChatCase
from runtime_py.tokenizer import Tokenizer


def open_tokenizer(text: TextFiles) -> Tokenizer:
    """Return the checkpoint's tokenizer, as a runtime will use it."""
    path = text.folder / "tokenizer.json"
    return Tokenizer(tokenizers.Tokenizer.from_file(str(path)), text.bos_id)


def chat_cases(text: TextFiles, tokenizer: Tokenizer) -> tuple[ChatCase, ...]:
    """Render every chat that the template accepts; some accept no system turn."""
    source = text.chat_template
    if source is None:
        return ()
    template = ChatTemplate(source, text.special_tokens)
    switches: tuple[dict[str, object], ...] = ({},)
    if "enable_thinking" in source:
        switches = ({}, {"enable_thinking": False})
    cases = []
    for turns in (*CHATS, SYSTEM_CHAT):
        messages = tuple({"role": role, "content": content} for role, content in turns)
        for variables in switches:
            try:
                rendered = template.render(messages, variables)
            except RunError:
                if turns is not SYSTEM_CHAT:
                    raise
                continue
            cases.append(ChatCase(messages, variables, rendered, tuple(tokenizer.encode(rendered))))
    return tuple(cases)


def long_ids(tokenizer: Tokenizer, length: int) -> list[int]:
    """Return `length` ids of one text, repeated with a count where it is too short."""
    text = LONG_TEXT
    while len(ids := tokenizer.encode_prompt(text)) < length:
        text = f"{text}\n{len(text)}. {LONG_TEXT}"
    return ids[:length]
