"""A chat template as a stock runner's engine needs it."""

from collections.abc import Mapping, Sequence

from pocketlm.edge_build.runner_files import template_repairs
from pocketlm.runtime_py.chat_template import MOMENT, ChatTemplate, TemplateError
from pocketlm.runtime_py.lint.edge_cases import edge_case_chats


def runner_template(source: str, special_tokens: Mapping[str, str], names: Sequence[str]) -> str:
    """Return the template after each rewriting with which jinja2 renders edge cases alike."""
    current, expected = source, None
    for name in names:
        rewritten = template_repairs.load(name)(current)
        if rewritten == current:
            continue
        if expected is None:
            expected = _renderings(source, special_tokens)
        if _renderings(rewritten, special_tokens) == expected:
            current = rewritten
    return current


def _renderings(source: str, special_tokens: Mapping[str, str]) -> list[str]:
    template = ChatTemplate(source, special_tokens, moment=MOMENT)
    chats = [(chat.messages, chat.variables) for chat in edge_case_chats()]
    # A refusal must stay one, in the same words.
    results = template.try_all(chats).results
    return [f"refused: {r}" if isinstance(r, TemplateError) else r for r in results]
