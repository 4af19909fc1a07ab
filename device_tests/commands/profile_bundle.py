"""pocketlm profile: run a bundle on a device, check its answers, and account for its memory."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pocketlm.device_tests.commands.flags import shown_progress
from pocketlm.device_tests.commands.saving import check_writable, save
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.profiling.request import (
    DECODE_TOKENS,
    TIMEOUT_S,
    ProfileRequest,
    run_profile,
)

if TYPE_CHECKING:
    from pocketlm.device_tests.profiling.document import Report


@click.command("profile", short_help="Run a bundle on a device; account for its memory.")
@click.argument("folder", metavar="BUNDLE", required=False)
@click.option(
    "--on",
    "target_name",
    metavar="TARGET",
    help="adb (the only device), adb:SERIAL, ssh:HOST or host; `pocketlm devices` lists them.",
)
@click.option("--backend", metavar="NAME", help="Default: the bundle's first by name.")
@click.option(
    "--prompt-tokens",
    type=int,
    help="Tokens to prefill. Default: 512, or what the context has room for.",
)
@click.option(
    "--decode-tokens", type=int, default=DECODE_TOKENS, show_default=True, help="Tokens to decode."
)
@click.option(
    "-t",
    "--threads",
    type=click.IntRange(min=1),
    help="Threads to compute with. Default: the device's cores, at most 4.",
)
@click.option(
    "--packed-cache", is_flag=True, help="Map packed weights from a file, where the backend can."
)
@click.option("--no-verify", is_flag=True, help="Leave out the golden answers.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.IntRange(min=1),
    default=TIMEOUT_S,
    show_default=True,
    help="Seconds until the run is ended.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Write the report as JSON to a file."
)
@click.option("--html", type=click.Path(path_type=Path), help="Write the report as a page.")
@click.option(
    "--compare",
    nargs=2,
    type=click.Path(path_type=Path),
    metavar="A.json B.json",
    help="Say what changed between two reports; nothing is run.",
)
def profile_bundle(
    folder: str | None,
    target_name: str | None,
    backend: str | None,
    prompt_tokens: int | None,
    decode_tokens: int,
    threads: int | None,
    packed_cache: bool,
    no_verify: bool,
    timeout_s: int,
    as_json: bool,
    out: Path | None,
    html: Path | None,
    compare: tuple[Path, Path] | None,
) -> None:
    """Run BUNDLE on a device with its golden answers, and measure each part of its memory.

    Exit code 1: answers differ, or memory is not as predicted, unless the run was under pressure:
    sizes are too small then. 2: the input was wrong, or the device was not reached. 3: the run did
    not come to its end.

    \b
    Examples:
      pocketlm profile pico --on adb --html report.html
      pocketlm profile pico --on ssh:raspberrypi --backend onnx --out pi.json
      pocketlm profile --compare before.json after.json
    """
    if compare:
        _compare(*compare, as_json)
        return
    if folder is None or target_name is None:
        raise click.UsageError("name a BUNDLE and a device with --on, or use --compare A B")
    for path in (out, html):
        if path is not None:
            check_writable(path)
    request = ProfileRequest(
        folder, target_name, backend, prompt_tokens, decode_tokens, threads, packed_cache,
        not no_verify, timeout_s,
    )  # fmt: skip
    with shown_progress() as progress:
        report = run_profile(request, progress)
    if out is not None:
        save(report.to_json(), out)
    if html is not None:
        from pocketlm.device_tests.report.page import render_html

        save(render_html(report), html)
    if as_json:
        click.echo(report.to_json(), nl=False)
    else:
        show(report)
    sys.exit(exit_code(report))


def show(report: "Report") -> None:
    """Print a report."""
    from pocketlm.device_tests.report.terminal import print_report
    from pocketlm.runtime_py.terminal import make_console

    print_report(report, make_console())


def exit_code(report: "Report") -> int:
    """Return 0 where all is well, 1 where a check failed, 3 where the run did."""
    from pocketlm.device_tests.job.verdict import MEASURED

    if report.verdict not in MEASURED:
        return 3
    wrong = report.answers is not None and not report.answers.passed
    off = report.ledger is not None and not report.ledger.passed
    # Under pressure, sizes are smaller than what the model wants: no prediction could be met.
    return 1 if wrong or (off and report.verdict != "under_pressure") else 0


def _compare(before: Path, after: Path, as_json: bool) -> None:
    from pocketlm.device_tests.profiling.document import Report
    from pocketlm.device_tests.report.comparison import compare

    def read(path: Path) -> Report:
        try:
            return Report.from_json(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise DeviceError(
                f"--compare {path}: cannot be read: {error}; give a file that "
                "`pocketlm profile --out` wrote"
            ) from error

    found = compare(read(before), read(after))
    if as_json:
        click.echo(found.to_json(), nl=False)
        return
    from pocketlm.device_tests.report.comparison_terminal import print_comparison
    from pocketlm.runtime_py.terminal import make_console

    print_comparison(found, make_console())
