"""A chat: messages, and what of them the session's caches already hold."""

from collections.abc import Sequence
from dataclasses import replace

from pocketlm.runtime_py.chat_encoding import ChatEncoder
from pocketlm.runtime_py.chat_template import ChatTemplate, Message, Variables
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.generation import Generation, GenerationRequest, generate
from pocketlm.runtime_py.session import Session
from pocketlm.runtime_py.tokenizer import Tokenizer

# An answer has this part of the context at least; what is less, old turns make room for.
_LEAST_ROOM = 8
# How much room they make: with more than the least, not every turn reads all the others again.
_ROOM = 4


class Conversation:
    """Turns with one model. Each turn processes only what is new since the last.

    Attributes:
        messages: what was said and still fits, the system message included.
        left_out: how many old messages the last question left out.
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
        self._variables = variables
        self._opening: list[Message] = []
        if system is not None:
            self._opening.append({"role": "system", "content": system})
        self._cached: list[int] = []
        self._encoder = ChatEncoder(template, tokenizer)
        self._asked: list[Message] = []
        self.left_out = 0
        self.messages: list[Message] = list(self._opening)

    def ask(self, text: str, request: GenerationRequest) -> Generation:
        """Prepare the answer to a user's message; iterate over it, then `keep` it.

        Where the conversation outgrows the context, its oldest turns are left out.

        Raises:
            RunError: the template refuses, or the message alone does not fit into the context; the
                conversation stays as it was then.
        """
        asked, ids = self._fitting([*self.messages, _user(text)])
        self.left_out = len(self.messages) + 1 - len(asked)
        self._asked = asked
        held = self._go_back(ids)
        self._cached = list(ids)
        return generate(
            self._session, self._tokenizer, ids[held:], replace(request, seen=tuple(ids[:held]))
        )

    def keep(self, text: str, generation: Generation) -> None:
        """Note a turn, also one that was interrupted; without any answer it is as if never said."""
        generation.close()
        result = generation.result
        self._cached = [*self._cached, *result.tokens][: self._session.position]
        if result.tokens:
            self.messages = [*self._asked, {"role": "assistant", "content": result.text}]

    def _fitting(self, messages: list[Message]) -> tuple[list[Message], list[int]]:
        """Return the messages without as many old turns as the context asks for, and their ids."""
        context = self._session.context_length
        ids = self._encoder.encode(messages, self._variables)
        if len(ids) <= context - context // _LEAST_ROOM:
            return messages, ids
        opening = len(self._opening)
        turns = [i for i, m in enumerate(messages) if i > opening and m["role"] == "user"]
        shorter = [[*self._opening, *messages[start:]] for start in turns]
        # Fewer turns are shorter, so halving finds the first that leaves room.
        low, high, found = 0, len(shorter), (messages, ids)
        while low < high:
            middle = (low + high) // 2
            trial = self._encoder.encode(shorter[middle], self._variables)
            if len(trial) <= context - context // _ROOM:
                found, high = (shorter[middle], trial), middle
            else:
                low = middle + 1
        if found[0] is messages and shorter:
            found = shorter[-1], self._encoder.encode(shorter[-1], self._variables)
        if len(found[1]) > context:
            raise RunError(
                f"context full: this message alone makes {len(found[1])} tokens, the context "
                f"holds {context}; shorten it, or build with a larger --context"
            )
        return found

    def undo(self) -> str | None:
        """Take the last question and its answer back; return the question, None if there is none.

        The caches are left as they are: the next question goes back in them as far as it must.
        """
        asked = [i for i, message in enumerate(self.messages) if message["role"] == "user"]
        if not asked:
            return None
        question: str = self.messages[asked[-1]]["content"]
        self.messages = self.messages[: asked[-1]]
        return question

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
