"""pocketlm chat: turns at a terminal, or lines from a pipe."""

import sys
from typing import TYPE_CHECKING

import click

from pocketlm.runtime_py.commands.chat_input import Typed, help_text, next_typed
from pocketlm.runtime_py.commands.flags import (
    INTERRUPTED,
    SamplingFlags,
    backend_option,
    bundle_argument,
    draft_option,
    max_new_tokens_option,
    sampling_flags,
    skip_hashes_option,
    think_option,
    threads_option,
)
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.terminal import say, say_error

if TYPE_CHECKING:
    from pocketlm.runtime_py.conversation import Conversation
    from pocketlm.runtime_py.generation import GenerationRequest


@click.command(short_help="Chat with a bundle.")
@bundle_argument
@click.option("--system", help="System message.")
@think_option
@backend_option
@max_new_tokens_option
@sampling_flags
@draft_option
@threads_option
@skip_hashes_option
def chat(
    folder: str,
    system: str | None,
    think: bool | None,
    backend: str | None,
    max_new_tokens: int | None,
    sampling: SamplingFlags,
    draft: str,
    threads: int | None,
    skip_hashes: bool,
) -> None:
    """Chat with BUNDLE. /help lists commands; Ctrl-C ends an answer.

    A line is a message; three double quotes on a line begin and end one of several
    lines. What is pasted at once is one message.

    \b
    pocketlm chat pico
    pocketlm chat qwen --no-think --temperature 0.7 --system 'Answer briefly.'
    """
    from pocketlm.runtime_py.commands.runner import (
        chat_template,
        open_checked,
        opened_drafter,
    )
    from pocketlm.runtime_py.conversation import Conversation
    from pocketlm.runtime_py.generation import GenerationRequest

    with (
        open_checked(folder, backend, threads, skip_hashes, sampling) as (model, options),
        opened_drafter(draft, model, threads) as drafter,
    ):
        variables = {} if think is None else {"enable_thinking": think}
        template = chat_template(model, think)
        request = GenerationRequest(
            options=options,
            stop_ids=model.bundle.manifest.stop_ids,
            max_new_tokens=max_new_tokens,
            drafter=drafter,
        )
        conversation = Conversation(model.session, model.tokenizer, template, variables, system)
        say("/help lists commands, /exit ends, Ctrl-C ends an answer", err=True)
        while (typed := _next_typed()) is not None and typed != Typed("/exit", is_command=True):
            if not typed.is_command:
                _turn(conversation, typed.text, request)
            else:
                _follow(conversation, typed.text, request)


def _follow(conversation: "Conversation", command: str, request: "GenerationRequest") -> None:
    """Do what a command says."""
    if command == "/reset":
        conversation.reset()
        click.echo("begun anew", err=True)
    elif command == "/help":
        click.echo(help_text(), err=True)
    elif (question := conversation.undo()) is None:
        say_error(f"{command}: nothing was asked yet")
    elif command == "/retry":
        _turn(conversation, question, request)
    else:
        click.echo(f"taken back: {question}", err=True)


def _turn(conversation: "Conversation", text: str, request: "GenerationRequest") -> None:
    from dataclasses import replace

    from pocketlm.runtime_py.chat_template import TemplateError
    from pocketlm.runtime_py.commands.runner import print_pieces, timings
    from pocketlm.runtime_py.interruption import Interruption

    with Interruption() as stop:
        request = replace(request, should_stop=lambda: stop.requested)
        try:
            generation = conversation.ask(text, request)
            if conversation.left_out:
                say(
                    f"[context full: the {conversation.left_out} oldest messages were left out]",
                    err=True,
                )
            print_pieces(generation)
        except RunError as error:
            refused = isinstance(error, TemplateError) and conversation.messages
            hint = "; /reset begins anew" if refused else ""
            say_error(f"{error}{hint}")
            return
        conversation.keep(text, generation)
    say(f"[{timings(generation.result)}]", err=True)


def _next_typed() -> Typed | None:
    try:
        return next_typed()
    except KeyboardInterrupt:
        click.echo("", err=True)
        sys.exit(INTERRUPTED)
