"""pocketlm lint: do the stock runners read text as the host does?"""

import json
import sys
from typing import TYPE_CHECKING

import click

from pocketlm.runtime_py.commands.flags import bundle_argument, json_option

if TYPE_CHECKING:
    from pocketlm.runtime_py.readings import Readings


@click.command(short_help="Tokenize edge cases with every runtime.")
@bundle_argument
@json_option
def lint(folder: str, as_json: bool) -> None:
    """Tokenize edge cases with every installed runtime; exit code 1 if they differ.

    Differences that a release is known to have are named with what an app can do, and do not fail.
    llama.cpp, which runs no bundles, is asked too where llama-cpp-python and gguf are installed.

    \b
    pocketlm lint pico
    pocketlm lint pico --json
    """
    from dataclasses import asdict

    from rich.progress import Progress

    from pocketlm.runtime_py.bundle import open_bundle
    from pocketlm.runtime_py.lint import readers
    from pocketlm.runtime_py.lint.comparison import read_alike
    from pocketlm.runtime_py.terminal import make_console

    bundle = open_bundle(folder, check_hashes=False)
    with Progress(console=make_console(stderr=True), transient=True) as progress:
        progress.add_task("tokenizers and chat templates", total=None)
        readings = read_alike(bundle.folder, others=True)
    runners = {reader.name for reader in map(readers.load, readers.names()) if reader.runs_bundles}
    passed = not any(reading.unknown for name, reading in readings.items() if name in runners)
    if as_json:
        document = {
            "bundle": str(bundle.folder),
            "passed": passed,
            "runtimes": {name: asdict(reading) for name, reading in readings.items()},
        }
        click.echo(json.dumps(document, indent=1))
    else:
        _print(readings)
    if not passed:
        sys.exit(1)


def _print(readings: "Readings") -> None:
    from pocketlm.runtime_py.readings import reading_lines
    from pocketlm.runtime_py.terminal import say

    say(*reading_lines(readings))
    for name, reading in readings.items():
        for difference in reading.differences:
            mark = "known" if difference.known else "UNKNOWN"
            example = f', such as "{difference.example}"' if difference.example else ""
            say(
                f"{mark}: {name}: {difference.kind} ({difference.count}{example}): "
                f"{difference.reason}; {difference.advice}"
            )
