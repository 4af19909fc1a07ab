"""What `pocketlm doctor` prints: the machine, and a line for each extra with what it lacks."""

import json
from collections.abc import Sequence
from dataclasses import asdict

import click

from pocketlm.edge_build.byte_sizes import shown_size
from pocketlm.edge_build.installation import Extra, Machine, Package
from pocketlm.runtime_py.terminal import is_verbose, say


def report_installation(
    machine: Machine, extras: Sequence[Extra], *, ok: bool, as_json: bool
) -> None:
    """Print what is installed and what installs the rest: one document, or lines."""
    if as_json:
        documents = [_document(extra) for extra in extras]
        click.echo(
            json.dumps({"ok": ok, "machine": asdict(machine), "extras": documents}, indent=1)
        )
        return
    memory, disk = shown_size(machine.memory_bytes), shown_size(machine.free_disk_bytes)
    say(
        f"Python {machine.python}, {machine.processor}, {machine.cores} cores, "
        f"{memory} memory, {disk} free disk"
    )
    for extra in extras:
        say(f"{extra.state:13}  {extra.name:10}  {extra.purpose}")
        for package in extra.packages:
            if package.state != "ok" or is_verbose():
                say(f"{'':13}    {_shown(package)}")
        if extra.state != "ok":
            say(f"{'':13}    run: {extra.command}")


def _shown(package: Package) -> str:
    wanted = f"{package.name}{package.wanted}"
    found = f": {package.found} is installed" if package.found else ": not installed"
    return wanted + found


def _document(extra: Extra) -> dict[str, object]:
    return {
        "name": extra.name,
        "purpose": extra.purpose,
        "state": extra.state,
        "missing": extra.missing,
        "packages": [asdict(package) for package in extra.packages],
        "command": extra.command,
    }
