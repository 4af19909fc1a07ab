"""pocketlm eval. Heavy libraries are imported inside the command."""

import json
from dataclasses import replace
from pathlib import Path

import click

from pocketlm.evaluation.page_file import check_page_path, write_page
from pocketlm.runtime_py.commands.flags import backend_option, json_option, threads_option
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.terminal import say, step_bar

_FILE = click.Path(path_type=Path, dir_okay=False)
_POSITIVE = click.IntRange(min=1)


@click.command("eval", short_help="Measure perplexity and KL divergence on a text.")
@click.argument("subject", metavar="BUNDLE|CHECKPOINT")
@click.option("--text", "text_file", type=_FILE, help="Text file, in UTF-8.")
@click.option(
    "--chats", "chats_file", type=_FILE, help='JSON lines, each with "messages", for the template.'
)
@click.option("--against", metavar="CHECKPOINT", help="Reference for KL divergence, in float32.")
@backend_option
@click.option("--tokens", type=_POSITIVE, help="Measure at most so many tokens. Default: all.")
@click.option(
    "--window",
    type=click.IntRange(min=2),
    help="Tokens read in one piece from empty caches. Default: 2048, at most the context.",
)
@click.option("--html", "html_file", type=_FILE, help="Write a page that shows where it differs.")
@click.option("--fresh", is_flag=True, help="Measure again what an earlier run measured.")
@threads_option
@json_option
def evaluate_command(
    subject: str,
    text_file: Path | None,
    chats_file: Path | None,
    against: str | None,
    backend: str | None,
    tokens: int | None,
    window: int | None,
    html_file: Path | None,
    fresh: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure how well a model predicts a text, and how far it is from its checkpoint.

    A bundle is run as a device would: its own artifact, with its ring caches, a token at a time.
    With --against also the KL divergence from the checkpoint in float32, and how often both find
    the same token likeliest. Of conversations (--chats) the assistant's turns are measured.

    Passages that are measured are kept: the same command goes on where it was interrupted.

    \b
    pocketlm eval bundle --text book.txt
    pocketlm eval bundle --text book.txt --against ./gemma --html book.html
    pocketlm eval bundle --chats chats.jsonl --against ./gemma --backend onnx
    pocketlm eval ./gemma --text book.txt --tokens 4096 --json
    """
    if (text_file is None) == (chats_file is None):
        raise click.UsageError("Give one of --text FILE and --chats FILE.")
    from pocketlm.edge_build.installation import require_eager_models

    require_eager_models("eval")
    from pocketlm.evaluation.evaluation import evaluate
    from pocketlm.evaluation.kept_passages import kept_passages
    from pocketlm.evaluation.page import render_html
    from pocketlm.evaluation.result import result_of
    from pocketlm.evaluation.source import Source
    from pocketlm.evaluation.subject import artifact_subject, checkpoint_subject, is_bundle
    from pocketlm.evaluation.wording import figure_rows

    if html_file is not None:
        check_page_path(html_file, (text_file, chats_file))
    if is_bundle(subject):
        opened = artifact_subject(subject, backend, threads)
    elif backend is not None:
        raise RunError(f"--backend {backend}: {subject} is no bundle; leave it out")
    else:
        opened = checkpoint_subject(subject, threads)
    reference = checkpoint_subject(against, threads) if against is not None else None
    if reference is not None:
        opened = replace(opened, longest=min(opened.longest, reference.longest))
    source = Source.read(text_file, chats_file)
    passages = source.passages(opened, window, tokens)
    if reference is not None:
        source.require_same_tokens(opened, reference, passages, window)
    digests = (opened.digest, reference.digest if reference is not None else None)
    kept = kept_passages(digests, passages)
    if fresh:
        kept.clear()
    with step_bar("eval") as advance:
        evaluation = evaluate(opened, reference, passages, kept, advance)
    result = result_of(opened, reference, evaluation)
    if as_json:
        document = {**result.to_document(), "reused_tokens": evaluation.reused_tokens}
        click.echo(json.dumps(document, indent=1))
    else:
        against_shown = f" against {result.against}" if result.against else ""
        say(f"{result.subject}{against_shown}")
        for name, value in figure_rows(result):
            say(f"  {name:20} {value}")
    if evaluation.reused_tokens:
        say(f"note: {evaluation.reused_tokens:,} tokens were measured by an earlier run", err=True)
    if html_file is not None:
        write_page(html_file, render_html(result, evaluation, opened.tokenizer))


COMMANDS = (evaluate_command,)
