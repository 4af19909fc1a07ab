"""Text in, text out: a bundle as an app in Python uses it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pocketlm.runtime_py.bundle import Bundle
from pocketlm.runtime_py.chat_template import ChatTemplate, Variables, read_chat_template
from pocketlm.runtime_py.closing import Closing
from pocketlm.runtime_py.conversation import Conversation
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.generation import Generation, GenerationRequest, GenerationResult, generate
from pocketlm.runtime_py.sampling import SamplingOptions, published_options
from pocketlm.runtime_py.session import Session, checked_bundle, open_session
from pocketlm.runtime_py.tokenizer import Tokenizer, read_tokenizer

_GENERATION_CONFIG = "generation_config.json"


class StreamedText:
    """A text that is made while it is read: iterate over its pieces, or take `text` at once."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._pieces = self._read()

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    @property
    def text(self) -> str:
        """The whole text; makes what is still missing."""
        for _ in self._pieces:
            pass
        return self.result.text

    @property
    def result(self) -> GenerationResult:
        """What there is so far: tokens, what ended it, times."""
        return self._generation.result

    def _read(self) -> Iterator[str]:
        for piece in self._generation:
            if piece.text:
                yield piece.text
        if self.result.reason == "interrupted":
            # A generation ends quietly at Ctrl-C; a program that reads it wants to hear of that.
            raise KeyboardInterrupt


class Chat(Closing):
    """A conversation: each answer sees the messages before it. Made by `open_chat` or a model."""

    def __init__(
        self, session: Session, conversation: Conversation, request: GenerationRequest
    ) -> None:
        self._session = session
        self._conversation = conversation
        self._request = request
        self._last: tuple[str, StreamedText] | None = None

    def stream(self, message: str) -> StreamedText:
        """Return the answer to a user's message; what was not read of the last is left out.

        It is made while it is read: iterate over its pieces, or take `.text`.

        Raises:
            RunError: the template refuses the message, or the context is full.
        """
        self._keep()
        generation = self._conversation.ask(message, self._request)
        answer = StreamedText(generation)
        self._last = message, answer
        return answer

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Everything said so far, as chat templates read it."""
        self._keep()
        return [dict(message) for message in self._conversation.messages]

    def reset(self) -> None:
        """Begin anew, with the system message only."""
        self._last = None
        self._conversation.reset()

    def close(self) -> None:
        """Release the memory of the model, which holds one conversation at a time."""
        self._session.close()

    def _keep(self) -> None:
        if self._last is not None:
            message, answer = self._last
            self._last = None
            self._conversation.keep(message, answer._generation)


class TextModel(Closing):
    """One artifact of a bundle, loaded. Made by `open_model`; close it, or use it in `with`.

    Attributes:
        template: None if the checkpoint has none; then it continues text and does not chat.
    """

    def __init__(
        self,
        bundle: Bundle,
        session: Session,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
    ) -> None:
        self.bundle = bundle
        self.session = session
        self.tokenizer = tokenizer
        self.template = template

    @property
    def published(self) -> SamplingOptions:
        """The checkpoint's own sampling defaults.

        Raises:
            RunError: generation_config.json holds something else.
        """
        return published_options(read_generation_config(self.bundle))

    def generate(
        self,
        prompt: str,
        max_new_tokens: int | None = None,
        sampling: SamplingOptions | None = None,
    ) -> StreamedText:
        """Continue a text as it stands, without a chat template; forgets what was before.

        Args:
            max_new_tokens: None is as many as the context has room for.
            sampling: None is the checkpoint's own; SamplingOptions() is greedy.

        Raises:
            RunError: the prompt is empty or does not fit into the context.
        """
        self.session.reset()
        ids = self.tokenizer.encode_prompt(prompt)
        request = self._request(max_new_tokens, sampling)
        return StreamedText(generate(self.session, self.tokenizer, ids, request))

    def chat(
        self,
        system: str | None = None,
        max_new_tokens: int | None = None,
        sampling: SamplingOptions | None = None,
        variables: Variables | None = None,
    ) -> Chat:
        """Begin a conversation; a model holds one at a time.

        Args:
            system: message that stands before all others.
            max_new_tokens: in one answer; None is as many as the context has room for.
            sampling: as in `generate`.
            variables: what the template reads besides, such as {"enable_thinking": False}.

        Raises:
            RunError: the checkpoint has no chat template.
        """
        if self.template is None:
            raise RunError(
                f"{self.bundle.folder}: the checkpoint has no chat template; continue a text with "
                "generate()"
            )
        self.session.reset()
        conversation = Conversation(
            self.session, self.tokenizer, self.template, variables or {}, system
        )
        return Chat(self.session, conversation, self._request(max_new_tokens, sampling))

    def close(self) -> None:
        """Release the memory of the model."""
        self.session.close()

    def _request(
        self, max_new_tokens: int | None, sampling: SamplingOptions | None
    ) -> GenerationRequest:
        return GenerationRequest(
            options=self.published if sampling is None else sampling,
            stop_ids=self.bundle.manifest.stop_ids,
            max_new_tokens=max_new_tokens,
        )


def open_model(
    bundle: Bundle | Path | str,
    backend: str | None = None,
    threads: int | None = None,
    *,
    tune_process: bool = False,
) -> TextModel:
    """Load one artifact of a bundle, its tokenizer and its chat template.

    Args:
        bundle: a folder is opened and its files' hashes are checked first; a Bundle is taken as
            checked.
        backend: "onnx" or "executorch"; None takes the first whose runtime is installed.
        threads, tune_process: as in `open_session`.

    Raises:
        RunError: no such bundle, file, backend or runtime.
    """
    opened, name = checked_bundle(bundle, backend)
    # Small files first, so that mistakes show at once.
    tokenizer, template = read_tokenizer(opened), read_chat_template(opened)
    session = open_session(opened, name, threads, tune_process=tune_process)
    return TextModel(opened, session, tokenizer, template)


def read_generation_config(bundle: Bundle) -> dict[str, object]:
    """Return generation_config.json; empty if the bundle has none.

    Raises:
        RunError: it is not a JSON object.
    """
    return bundle.read_object(_GENERATION_CONFIG) if bundle.has(_GENERATION_CONFIG) else {}
