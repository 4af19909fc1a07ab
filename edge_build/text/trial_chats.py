"""Renders chats with the checkpoint's template before anything is built.

What renders becomes golden chats; what the template refuses is noted; a template that renders
nothing is broken.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.golden_texts import CHATS, SYSTEM_CHAT
from pocketlm.edge_build.text.special_tokens import NAMES
from pocketlm.runtime_py.chat_template import MOMENT, Chat, ChatTemplate, Message, TemplateError
from pocketlm.runtime_py.golden import ChatCase
from pocketlm.runtime_py.tokenizer_library import LibraryTokenizer

# Parts of no template and no word, so that they are found again, whatever is done to letters.
_QUESTION, _ANSWER, _NEXT = "question 8051", "answer 3947", "next 6207"


@dataclass(frozen=True)
class TrialChats:
    """What a template made of some chats.

    Attributes:
        cases: the chats that rendered.
        ending: what follows an assistant's text in a turn; None if the template shows none.
        is_user_ending: it is what follows a user's text, where there is no assistant's text.
    """

    cases: tuple[ChatCase, ...]
    ending: str | None
    is_user_ending: bool
    notes: tuple[str, ...]


def try_chats(template: ChatTemplate, tokenizer: LibraryTokenizer) -> TrialChats:
    """Render the golden chats, and some that show how turns end.

    Raises:
        BuildError: the template has a syntax error or fails whatever it is given.
    """
    template = replace(template, moment=MOMENT)
    chats, endings = _golden_chats(template), _ending_chats()
    renderings = template.try_all([*chats, *endings])
    results = [_in_whole_characters(one) for one in renderings.results]
    shown, tails = results[: len(chats)], results[len(chats) :]
    errors = [result for result in shown if isinstance(result, TemplateError)]
    if len(errors) == len(shown) and any(error.kind != "refused" for error in errors):
        _refuse(next(error for error in errors if error.kind != "refused"))
    cases, notes = [], _unnamed(template, renderings.names)
    for (messages, variables), text in zip(chats, shown, strict=True):
        if isinstance(text, TemplateError):
            notes.append(_left_out(messages, text))
            continue
        ids = tuple(tokenizer.encode(text))
        cases.append(ChatCase(tuple(messages), variables, text, ids))
        content = str(messages[-1]["content"])
        if content not in text:
            notes.append(f"the chat template leaves out messages: {content!r} is not in {text!r}")
    ending, is_user = _ending(tails)
    return TrialChats(tuple(cases), ending, is_user, tuple(dict.fromkeys(notes)))


def _in_whole_characters(rendered: str | TemplateError) -> str | TemplateError:
    """Return a failure in the place of text with half of a surrogate pair, which no token is."""
    if isinstance(rendered, TemplateError):
        return rendered
    try:
        rendered.encode("utf-8")
    except UnicodeEncodeError as error:
        half = ascii(rendered[error.start])[1:-1]
        return TemplateError("failed", f"it renders {half}, half of a character")
    return rendered


def _golden_chats(template: ChatTemplate) -> list[Chat]:
    switches: tuple[dict[str, object], ...] = ({},)
    if "enable_thinking" in template.source:
        switches = ({}, {"enable_thinking": False})
    return [
        (tuple({"role": role, "content": content} for role, content in turns), variables)
        for turns in (*CHATS, SYSTEM_CHAT)
        for variables in switches
    ]


def _ending_chats() -> list[Chat]:
    """Return chats whose rendering shows the end of a turn, the most telling first."""
    user = {"role": "user", "content": _QUESTION}
    assistant = {"role": "assistant", "content": _ANSWER}
    system = {"role": "system", "content": "Answer."}
    rounds: tuple[tuple[Message, ...], ...] = (
        (user, assistant),
        (user, assistant, {"role": "user", "content": _NEXT}),
        (system, user, assistant),
        (user,),
    )
    return [(messages, {"add_generation_prompt": False}) for messages in rounds]


def _ending(results: Sequence[str | TemplateError]) -> tuple[str | None, bool]:
    *answered, asked = results
    for text, marker in (*((text, _ANSWER) for text in answered), (asked, _QUESTION)):
        if not isinstance(text, str) or marker not in text:
            continue
        after = text.rpartition(marker)[2].partition(_NEXT)[0]
        if after.strip():
            return after, marker == _QUESTION
    return None, False


def _refuse(error: TemplateError) -> None:
    what = {"syntax": "has a syntax error", "stopped": "was stopped"}.get(error.kind, "failed")
    reason = error.reason.rstrip(".")
    raise BuildError(
        f"the chat template {what}: {reason}; repair it in the checkpoint, or take the template "
        "out of it to build a bundle that continues text"
    ) from error


def _left_out(messages: Sequence[Message], error: TemplateError) -> str:
    roles = ", ".join(str(message["role"]) for message in messages)
    did = "refuses" if error.kind == "refused" else "fails on"
    return (
        f"the chat template {did} a chat of {roles}, left out of the golden chats: {error.reason}"
    )


def _unnamed(template: ChatTemplate, names: Set[str]) -> list[str]:
    """Say which names the template reads in vain. transformers renders them as nothing too."""
    return [
        f"the chat template names {name}, but the tokenizer has none: it renders as nothing, as "
        "in transformers"
        for name in NAMES
        if name in names and name not in template.special_tokens
    ]
