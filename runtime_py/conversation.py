"""A chat: messages, and what of them the session's caches already hold. Knows no terminal."""

from collections.abc import Sequence
from dataclasses import replace

from runtime_py.chat_template import ChatTemplate, Message, Variables
from runtime_py.errors import RunError
from runtime_py.generation import Generation, GenerationRequest, generate
from runtime_py.session import Session
from runtime_py.tokenizer import Tokenizer


class Conversation:
    """Turns with one model. Each turn processes only what is new since the last.

    Attributes:
        messages: everything said so far, the system message included.
    """

    def __init__(
        self,
        session: Session,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        variables: Variables,
        system: str | None = None,
    ) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._template = template
        self._variables = variables
        self._opening: list[Message] = []
        if system is not None:
            self._opening.append({"role": "system", "content": system})
        self._cached: list[int] = []
        self.messages: list[Message] = list(self._opening)

    def ask(self, text: str, request: GenerationRequest) -> Generation:
        """Prepare the answer to a user's message; iterate over it, then `keep` it.

        Raises:
            RunError: the template refuses, or the conversation no longer fits into the context;
                it stays as it was then.
        """
        messages = [*self.messages, _user(text)]
        ids = self._tokenizer.encode(self._template.render(messages, self._variables))
        if len(ids) > self._session.context_length:
            raise RunError(
                f"context full: with this message the conversation has {len(ids)} tokens, the "
                f"context holds {self._session.context_length}; reset the conversation, or build "
                "with a larger --context"
            )
        held = self._go_back(ids)
        self._cached = list(ids)
        return generate(
            self._session, self._tokenizer, ids[held:], replace(request, seen=tuple(ids[:held]))
        )

    def keep(self, text: str, generation: Generation) -> None:
        """Note a turn, also one that was interrupted; without any answer it is as if never said."""
        result = generation.result
        self._cached = [*self._cached, *result.tokens][: self._session.position]
        if result.tokens:
            self.messages += [_user(text), {"role": "assistant", "content": result.text}]

    def reset(self) -> None:
        """Begin anew, with the system message only."""
        self._session.reset()
        self._cached = []
        self.messages = list(self._opening)

    def _go_back(self, ids: Sequence[int]) -> int:
        """Put the session where its tokens and `ids` part; return that position."""
        # At least one token must be processed to have logits.
        pairs = zip(self._cached, ids[:-1], strict=False)
        held = next((i for i, (old, new) in enumerate(pairs) if old != new), None)
        if held is None:
            held = min(len(self._cached), len(ids) - 1)
        if held == self._session.position and not self._session.needs_reset:
            return held
        if self._session.rewind_error(held) is not None:
            self._session.reset()
            return 0
        self._session.rewind(held)
        return held


def _user(text: str) -> Message:
    return {"role": "user", "content": text}
