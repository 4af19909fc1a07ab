"""Messages → ids: the template's control tokens are tokens, those in messages are text.

A control token that somebody types must not end a turn or begin another one's. While the template
renders, each control token in a message is one private-use character; the text around the
template's own control tokens is then encoded as text. Without such messages the whole rendering is
encoded at once, so merges are never cut.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pocketlm.runtime_py.chat_template import ChatTemplate, Message, Variables
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.tokenizer import Tokenizer

# The private use area of the basic plane.
_FIRST, _LAST = 0xE000, 0xF8FF


class ChatEncoder:
    """Renders and encodes chats with one template and one tokenizer."""

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        self._template = template
        self._tokenizer = tokenizer
        special = tokenizer.added_tokens(special=True)
        # Ordinary added tokens, such as <think>, control only templates that write them.
        ordinary = tokenizer.added_tokens(special=False)
        written = [t for t in ordinary if not t.isspace() and t in template.source]
        self._special = _any_of(special)
        self._control = _any_of([*special, *written])

    def encode(self, messages: Sequence[Message], variables: Variables) -> list[int]:
        """Return the ids of a chat, ready for the model's answer.

        Raises:
            RunError: the template refuses the messages or is broken, or a control token in them
                cannot be encoded as text.
        """
        typed = self._typed(messages)
        if not typed:
            return self._tokenizer.encode(self._template.render(messages, variables))
        marks = dict(zip(typed, _unused_characters(messages, len(typed)), strict=True))
        marked = [self._marked(message, marks) for message in messages]
        rendered = self._template.render(marked, variables)
        if any(json.dumps(mark)[1:-1] in rendered for mark in marks.values()):
            raise _cannot(typed)
        ids: list[int] = []
        for text, is_typed in self._runs(rendered, marks.values()):
            if is_typed:
                for token, mark in marks.items():
                    text = text.replace(mark, token)
                ids += self._as_text(text, typed)
            else:
                ids += self._tokenizer.encode(text)
        return ids

    def _typed(self, messages: Sequence[Message]) -> tuple[str, ...]:
        found = [
            token
            for message in messages
            for token in self._pattern(message).findall(str(message.get("content", "")))
        ]
        return tuple(dict.fromkeys(found))

    def _pattern(self, message: Message) -> re.Pattern[str]:
        # A model's own <think> is part of its answer, and templates take it apart.
        return self._special if message["role"] == "assistant" else self._control

    def _marked(self, message: Message, marks: Mapping[str, str]) -> Message:
        content = message.get("content")
        if not isinstance(content, str):
            return message
        marked = self._pattern(message).sub(lambda match: marks[match[0]], content)
        return {**message, "content": marked}

    def _runs(self, rendered: str, marks: Iterable[str]) -> Iterator[tuple[str, bool]]:
        """Cut a rendering at control tokens around typed ones; yield texts, and whether typed."""
        pattern = re.compile(f"[{''.join(map(re.escape, marks))}]")
        start = 0
        for begin, end in self._between(rendered):
            if pattern.search(rendered, begin, end):
                if start < begin:
                    yield rendered[start:begin], False
                yield rendered[begin:end], True
                start = end
        if start < len(rendered):
            yield rendered[start:], False

    def _between(self, rendered: str) -> Iterator[tuple[int, int]]:
        """Yield where the texts between control tokens begin and end."""
        begin = 0
        for match in self._control.finditer(rendered):
            yield begin, match.start()
            begin = match.end()
        yield begin, len(rendered)

    def _as_text(self, text: str, typed: Sequence[str]) -> list[int]:
        ids = self._tokenizer.encode_as_text(text, typed)
        if not {self._tokenizer.id_of(token) for token in typed}.isdisjoint(ids):
            raise _cannot(typed)
        return ids


def _any_of(tokens: Sequence[str]) -> re.Pattern[str]:
    # The longest first, as tokenizers matches them; (?!) never matches.
    longest_first = sorted(filter(None, tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def _unused_characters(messages: Sequence[Message], count: int) -> list[str]:
    text = json.dumps(list(messages), ensure_ascii=False)
    unused = [chr(code) for code in range(_FIRST, _LAST + 1) if chr(code) not in text]
    if len(unused) < count:
        raise RunError(
            f"the messages hold {count} different control tokens; leave them out, or use --raw"
        )
    return unused[:count]


def _cannot(typed: Sequence[str]) -> RunError:
    return RunError(
        f"the messages hold {', '.join(typed)}, which this template or tokenizer cannot take as "
        "text; leave it out, or use --raw"
    )
