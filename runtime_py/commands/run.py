"""pocketlm run: one prompt, one answer."""

import json
import sys
from typing import TYPE_CHECKING

import click

from pocketlm.runtime_py.commands.flags import (
    INTERRUPTED,
    SamplingFlags,
    backend_option,
    bundle_argument,
    draft_option,
    json_option,
    max_new_tokens_option,
    sampling_flags,
    skip_hashes_option,
    think_option,
    threads_option,
)
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.terminal import say

if TYPE_CHECKING:
    from pocketlm.runtime_py.generation import GenerationRequest, GenerationResult
    from pocketlm.runtime_py.text import TextModel


@click.command(short_help="Generate text with a bundle, as a device would.")
@bundle_argument
@click.option(
    "-p", "--prompt", required=True, help="Prompt; - reads stdin, less one final newline."
)
@click.option(
    "--chat/--raw",
    default=None,
    help="Put the prompt into the chat template, or continue it as it is. "
    "Default: --chat if the bundle has a template.",
)
@click.option("--system", help="System message, with --chat.")
@think_option
@backend_option
@max_new_tokens_option
@sampling_flags
@draft_option
@threads_option
@skip_hashes_option
@json_option
def run(
    folder: str,
    prompt: str,
    chat: bool | None,
    system: str | None,
    think: bool | None,
    backend: str | None,
    max_new_tokens: int | None,
    sampling: SamplingFlags,
    draft: str,
    threads: int | None,
    skip_hashes: bool,
    as_json: bool,
) -> None:
    """Generate text with BUNDLE, the way a device would.

    \b
    pocketlm run pico -p 'What is a tuple?'
    pocketlm run pico --raw -p 'def add(' -n 32 --temp 0
    pocketlm run gemma-4b -p 'Correct this text: ...' --draft prompt
    pocketlm run gemma-4b -p 'Why is the sky blue?' --draft gemma-270m
    git diff | pocketlm run pico -p - --json
    """
    from pocketlm.runtime_py.commands.runner import (
        open_checked,
        opened_drafter,
        print_pieces,
        timings,
    )
    from pocketlm.runtime_py.generation import GenerationRequest, generate
    from pocketlm.runtime_py.interruption import Interruption

    text = _read_prompt(prompt)
    with (
        open_checked(folder, backend, threads, skip_hashes, sampling) as (model, options),
        opened_drafter(draft, model, threads) as drafter,
        Interruption() as stop,
    ):
        request = GenerationRequest(
            options=options,
            stop_ids=model.bundle.manifest.stop_ids,
            max_new_tokens=max_new_tokens,
            should_stop=lambda: stop.requested,
            drafter=drafter,
        )
        ids = _prompt_ids(model, text, chat, system, think)
        generation = generate(model.session, model.tokenizer, ids, request)
        if as_json:
            for _ in generation:
                pass
            document = _document(model, request, generation.result)
            click.echo(json.dumps(document, indent=1))
        else:
            print_pieces(generation)
            say(timings(generation.result), err=True)
        interrupted = generation.result.reason == "interrupted"
    if interrupted:
        sys.exit(INTERRUPTED)


def _read_prompt(prompt: str) -> str:
    from pocketlm.runtime_py.utf8 import check_utf8, decode_utf8

    if prompt != "-":
        check_utf8(prompt, "--prompt")
        return prompt
    text = decode_utf8(sys.stdin.buffer.read(), "the prompt on stdin")
    return text.removesuffix("\n")


def _prompt_ids(
    model: "TextModel", text: str, chat: bool | None, system: str | None, think: bool | None
) -> list[int]:
    if chat is False or (chat is None and model.template is None):
        for flag, value in (("--system", system), ("--think/--no-think", think)):
            if value is not None:
                raise RunError(f"{flag} goes into the chat template; add --chat or leave it out")
        return model.tokenizer.encode_prompt(text)
    from pocketlm.runtime_py.commands.runner import chat_template

    template = chat_template(model, think)
    messages = [{"role": "user", "content": text}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    variables = {} if think is None else {"enable_thinking": think}
    return model.tokenizer.encode(template.render(messages, variables))


def _document(
    model: "TextModel", request: "GenerationRequest", result: "GenerationResult"
) -> dict[str, object]:
    return {
        "bundle": str(model.bundle.folder),
        "backend": model.session.backend,
        "text": result.text,
        "token_ids": list(result.tokens),
        "ended_by": result.reason,
        "prompt_tokens": result.prompt_tokens,
        "generated_tokens": len(result.tokens),
        "context_length": model.session.context_length,
        "prefill_s": result.prefill_s,
        "prefill_tokens_per_s": result.prefill_tokens_per_s,
        "decode_s": result.decode_s,
        "decode_tokens_per_s": result.decode_tokens_per_s,
        "decode_calls": result.decode_calls,
        "drafted_tokens": result.drafted_tokens,
        "accepted_tokens": result.accepted_tokens,
        "sampling": vars(request.options),
    }
