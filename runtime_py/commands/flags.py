"""Command line flags that several commands share, each written once."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.terminal import say

if TYPE_CHECKING:
    from pocketlm.runtime_py.sampling import SamplingOptions

Command = Callable[..., None]

# What a shell reports for a program that Ctrl-C ended.
INTERRUPTED = 130
_AT_LEAST_1 = click.IntRange(min=1)


def processors() -> int:
    """Return how many processors this process may use."""
    # macOS has no affinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _at_most_processors(
    context: click.Context, option: click.Parameter, threads: int | None
) -> int | None:
    # A thousand threads take minutes for a token, and no runtime says why.
    most = processors()
    if threads is None or threads <= most:
        return threads
    say(f"note: --threads {threads}: this machine has {most} processors; using {most}", err=True)
    return most


def bundle_argument(command: Command) -> Command:
    """Take a bundle's folder as BUNDLE or, as llama.cpp names a model, with -m."""

    @wraps(command)
    def with_folder(folder: str | None, model: str | None, **arguments: Any) -> None:
        if folder is None and model is None:
            raise click.UsageError("Missing argument 'BUNDLE'.")
        if folder is not None and model is not None:
            raise click.UsageError(f"BUNDLE {folder!r} and -m {model!r} are two bundles; give one.")
        command(folder=folder or model, **arguments)

    option = click.option("-m", "--model", metavar="BUNDLE", help="Another way to give BUNDLE.")
    return click.argument("folder", metavar="BUNDLE", required=False)(option(with_folder))


backend_option = click.option(
    "--backend",
    metavar="NAME",
    help="One of the bundle's backends. Default: the first that is installed.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout."
)
threads_option = click.option(
    "-t",
    "--threads",
    type=_AT_LEAST_1,
    callback=_at_most_processors,
    help="Threads to compute with, at most this machine's processors. Default: its cores.",
)
max_new_tokens_option = click.option(
    "-n",
    "--max-new-tokens",
    type=_AT_LEAST_1,
    help="Most tokens to generate. Default: as many as the context has room for.",
)
skip_hashes_option = click.option(
    "--skip-hashes", is_flag=True, help="Compare file sizes only, not their sha256."
)
think_option = click.option(
    "--think/--no-think",
    default=None,
    help="Switch thinking on or off in models that have it. Default: the template's.",
)

draft_option = click.option(
    "--draft",
    metavar="NAME",
    default="off",
    show_default=True,
    help="Speculative decoding: guess tokens by `prompt`, from repetitions in the text, or by the "
    "smaller bundle NAME with the same tokenizer. Each token is still the model's own choice.",
)

_SAMPLING = (
    click.option(
        "--temp",
        "--temperature",
        "temperature",
        type=click.FloatRange(min=0),
        help="Sampling temperature; 0 is greedy. Default: the checkpoint's.",
    ),
    click.option(
        "--top-k",
        type=click.IntRange(min=0),
        help="Top-k sampling: keep the k likeliest tokens; 0 keeps all.",
    ),
    click.option(
        "--top-p",
        type=click.FloatRange(0, 1, min_open=True),
        help="Top-p (nucleus) sampling: keep the likeliest tokens up to this probability.",
    ),
    click.option(
        "--min-p",
        type=click.FloatRange(0, 1),
        help="Min-p sampling: keep tokens above this share of the likeliest's probability.",
    ),
    click.option(
        "--repetition-penalty",
        type=click.FloatRange(min=0, min_open=True),
        help="Divide the logits of tokens that occurred; 1 is off.",
    ),
    click.option(
        "--seed", type=click.IntRange(min=0), help="Random seed: equal seeds draw equal tokens."
    ),
)


@dataclass(frozen=True)
class SamplingFlags:
    """What the user typed; None where nothing."""

    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    seed: int | None

    def over(self, generation_config: Mapping[str, Any]) -> "SamplingOptions":
        """Return the checkpoint's options with the typed ones in their place.

        Raises:
            RunError: out of range, or without effect.
        """
        from pocketlm.runtime_py.sampling import published_options

        typed = {name: value for name, value in vars(self).items() if value is not None}
        options = published_options(generation_config, typed)
        if options.temperature == 0:
            for name in ("top_k", "top_p", "min_p"):
                if name in typed:
                    flag = "--" + name.replace("_", "-")
                    raise RunError(
                        f"{flag} {typed[name]}: without effect at temperature 0, which always "
                        "takes the likeliest token; add --temperature 1 or so"
                    )
        return options


def sampling_flags(command: Command) -> Command:
    """Add the sampling options; the command gets them as one argument, `sampling`."""

    @wraps(command)
    def packed(**arguments: Any) -> None:
        names = SamplingFlags.__dataclass_fields__
        sampling = SamplingFlags(**{name: arguments.pop(name) for name in names})
        command(sampling=sampling, **arguments)

    for option in reversed(_SAMPLING):
        packed = option(packed)
    return packed
