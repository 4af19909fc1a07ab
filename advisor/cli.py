"""pocketlm advise. Heavy libraries are imported inside the command."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pocketlm.edge_build.size_option import SizeOption
from pocketlm.runtime_py.commands.flags import json_option, threads_option

if TYPE_CHECKING:
    from pocketlm.advisor.advice import Advice

_FILE = click.Path(path_type=Path, dir_okay=False)
_POSITIVE = click.IntRange(min=1)
_NONE_QUALIFIES = 1


@click.command("advise", short_help="Compare quantizations and name one to take.")
@click.argument("checkpoint")
@click.option(
    "--text", "text_file", type=_FILE, required=True, help="Text to measure on, in UTF-8."
)
@click.option(
    "--calibrate",
    "calibration_text",
    type=_FILE,
    metavar="FILE",
    help="Text for methods that need data, another than --text. Default: the model's own text.",
)
@click.option(
    "--ram",
    "ram_bytes",
    type=SizeOption(),
    metavar="SIZE",
    help="Memory that the model may take on the device, e.g. 1.2GB or 800M.",
)
@click.option(
    "--device",
    metavar="PROFILE|TARGET",
    help="Memory limit of a class of phones or of a device, as `pocketlm fit` has it: phone-6gb, "
    "adb, host.",
)
@click.option(
    "--least-agreement",
    type=click.FloatRange(0, 1),
    metavar="X",
    help="Least share of tokens with the checkpoint's top token, 0 to 1, e.g. 0.75.",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    help="One of `pocketlm list backends`; repeat for several. Default: all.",
)
@click.option(
    "-c",
    "--context",
    "context_length",
    type=_POSITIVE,
    help="Context length in tokens. Default: the model's, at most 4096.",
)
@click.option(
    "--candidates",
    "named",
    multiple=True,
    metavar="NAMES",
    help="RECIPE or RECIPE+METHOD, with commas between; a recipe may be a .toml file. Default: "
    "a list of docs/advise.md.",
)
@click.option(
    "--tokens",
    type=_POSITIVE,
    help="Measure at most so many tokens of the text. Default: 2048.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Keep bundles and what is measured in FOLDER. Default: the user's cache.",
)
@click.option("--html", "html_file", type=_FILE, help="Write a page with a plot.")
@click.option("--fresh", is_flag=True, help="Build and measure again what an earlier run did.")
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Spread candidates over a Ray cluster: HOST:PORT of its head, or auto.",
)
@threads_option
@json_option
def advise_command(
    checkpoint: str,
    text_file: Path,
    calibration_text: Path | None,
    ram_bytes: int | None,
    device: str | None,
    least_agreement: float | None,
    backends: tuple[str, ...],
    context_length: int | None,
    named: tuple[str, ...],
    tokens: int | None,
    out: Path | None,
    html_file: Path | None,
    fresh: bool,
    ray: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Answer "Which quantization should I take?" for CHECKPOINT, by measurements.

    Each candidate that fits is built, and its artifact is run: KL divergence from the checkpoint
    in float32, how often both find the same token likeliest, speed on this machine, predicted
    memory on the device. Under a memory limit the candidate with the least KL is named; with
    --least-agreement alone the one with the least memory. Exit code 1: none qualifies.

    What is built and measured is kept: the same command goes on where it was interrupted.

    \b
    pocketlm advise ./gemma --text book.txt --ram 1.2GB
    pocketlm advise ./gemma --text book.txt --device phone-6gb
    pocketlm advise ./gemma --text book.txt --least-agreement 0.8 --html g.html
    pocketlm advise ./gemma --text book.txt --candidates int4-g32,mixed.toml
    pocketlm advise ./gemma --text book.txt --calibrate notes.txt --ray auto
    """
    from pocketlm.edge_build.installation import require_build_tools

    require_build_tools(backends)
    if ray is not None:
        from pocketlm.advisor.spreading import require_ray

        require_ray()
    from pocketlm.advisor.advising import advise
    from pocketlm.advisor.question import DEFAULT_TOKENS, Question
    from pocketlm.advisor.terminal_watch import TerminalWatch
    from pocketlm.evaluation.page_file import check_page_path

    if html_file is not None:
        check_page_path(html_file, (text_file, calibration_text))
    question = Question(
        checkpoint,
        text_file,
        calibration_text,
        ram_bytes=ram_bytes,
        device=device,
        least_agreement=least_agreement,
        backends=backends,
        context_length=context_length,
        candidates=_names(named),
        tokens=tokens or DEFAULT_TOKENS,
        threads=threads,
        out=out,
        fresh=fresh,
        ray=ray,
    )
    advice = advise(question, TerminalWatch())
    _show(advice, html_file, as_json=as_json)
    if advice.chosen is None:
        sys.exit(_NONE_QUALIFIES)


def _names(named: tuple[str, ...]) -> tuple[str, ...]:
    """Return each candidate that was named."""
    return tuple(name for text in named for part in text.split(",") if (name := part.strip()))


def _show(advice: "Advice", html_file: Path | None, *, as_json: bool) -> None:
    if html_file is not None:
        from pocketlm.advisor.page import render_html
        from pocketlm.evaluation.page_file import write_page

        write_page(html_file, render_html(advice))
    if as_json:
        click.echo(json.dumps(advice.to_document(), indent=1))
        return
    from pocketlm.advisor.shown import print_advice

    print_advice(advice)


COMMANDS = (advise_command,)
