"""pocketlm bench: how fast is a bundle on this machine?"""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import click

from pocketlm.runtime_py.commands.flags import (
    backend_option,
    bundle_argument,
    draft_option,
    skip_hashes_option,
    threads_option,
)
from pocketlm.runtime_py.terminal import say

Command = Callable[..., None]


class _Lengths(click.ParamType):
    """Whole numbers, 0 or more, with commas between them."""

    name = "N,N,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        if not all(part.strip().isdecimal() for part in parts):
            self.fail(f"{value!r} is not a list of token counts such as 0,1024", param, ctx)
        return tuple(dict.fromkeys(int(part) for part in parts))


def _lengths_option(
    short: str, flag: str, name: str, default: str, what: str
) -> Callable[[Command], Command]:
    return click.option(
        short, flag, name, type=_Lengths(), default=default, show_default=True, help=what
    )


@click.command(short_help="Measure how fast a bundle is on this machine.")
@bundle_argument
@_lengths_option("-p", "--n-prompt", "prompts", "512", "Prompt lengths in tokens; 0 is none.")
@_lengths_option("-n", "--n-gen", "answers", "128", "Answer lengths in tokens; 0 is none.")
@_lengths_option("-d", "--n-depth", "depths", "0", "Tokens that are in the caches before.")
@click.option(
    "-r",
    "--repetitions",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Times that each test is measured, after one to warm up.",
)
@backend_option
@draft_option
@threads_option
@skip_hashes_option
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["md", "json", "csv"]),
    default="md",
    show_default=True,
)
def bench(
    folder: str,
    prompts: tuple[int, ...],
    answers: tuple[int, ...],
    depths: tuple[int, ...],
    repetitions: int,
    backend: str | None,
    draft: str,
    threads: int | None,
    skip_hashes: bool,
    form: str,
) -> None:
    """Measure prompt processing (pp) and text generation (tg) with BUNDLE, as llama-bench does.

    The text is that of the bundle's golden answers. With --draft, answers are
    generated; without, their tokens are fed.

    \b
    pocketlm bench gemma
    pocketlm bench gemma -p 512 -n 128 -d 0,1024,8192 -r 3
    pocketlm bench gemma --draft prompt -o json
    """
    from rich.progress import Progress

    from pocketlm.runtime_py.bench.measuring import bench_ids, measure
    from pocketlm.runtime_py.bench.output import BenchSubject, busy_note, shown
    from pocketlm.runtime_py.bench.plan import plan_tests
    from pocketlm.runtime_py.bundle import read_bundle
    from pocketlm.runtime_py.commands.runner import opened_drafter
    from pocketlm.runtime_py.session import choose_backend
    from pocketlm.runtime_py.terminal import bar_text, make_console
    from pocketlm.runtime_py.text import open_model

    bundle = read_bundle(folder)
    name = choose_backend(bundle) if backend is None else backend
    bundle.check(name, hashes=not skip_hashes)
    tests = plan_tests(prompts, answers, depths, bundle.manifest.context_length)
    ids = bench_ids(bundle, name, max(1, *(test.depth + test.tokens + 1 for test in tests)))
    begun = perf_counter()
    with (
        open_model(bundle, name, threads) as model,
        opened_drafter(draft, model, threads) as drafter,
        Progress(console=make_console(stderr=True), transient=True) as progress,
    ):
        load_s = perf_counter() - begun
        task = progress.add_task("measuring", total=None)

        def advance(done: int, total: int, what: str) -> None:
            progress.update(task, completed=done, total=total, description=bar_text(what))

        found = measure(
            model.session, model.tokenizer, ids, tests, repetitions, load_s, drafter, advance
        )
    click.echo(shown(BenchSubject.of(bundle.manifest, name, threads, draft), found, form))
    note = busy_note(found)
    if note is not None:
        say(f"note: {note}", err=True)
