"""pocketlm devices: what is there, and what makes ready what is not."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from pocketlm.runtime_py.commands.flags import json_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pocketlm.device_tests.device.target import Listed

# Of all that a kernel names, those that decide which kernels of matrix products run.
_TELLING = (
    "asimddp", "i8mm", "bf16", "sve2", "sme", "avx2", "avx512_vnni", "avx_vnni", "amx_int8",
)  # fmt: skip
_SHOWN_AS = {"asimddp": "dotprod"}


@click.command("devices", short_help="List phones and boards that can be reached.")
@click.option(
    "--on", "named", multiple=True, metavar="TARGET", help="Also this one, such as ssh:HOST."
)
@json_option
def devices(named: tuple[str, ...], as_json: bool) -> None:
    """List the devices that can be reached: phones by adb, named hosts by ssh, and this machine.

    \b
    Examples:
      pocketlm devices
      pocketlm devices --on ssh:raspberrypi --json
    """
    from pocketlm.device_tests.device.targets import list_targets

    found = list_targets(named)
    if as_json:
        click.echo(json.dumps([asdict(listed) for listed in found], indent=1))
        return
    _print(found)


def _print(found: "tuple[Listed, ...]") -> None:
    from pocketlm.runtime_py.terminal import make_console

    console = make_console(soft_wrap=True)
    for listed in found:
        console.print(f"{listed.name}: {listed.state}", style="bold")
        for line in _facts(listed):
            console.print(f"  {line}")
        if listed.advice:
            console.print(f"  {listed.advice}")


def _facts(listed: "Listed") -> "Iterator[str]":
    from pocketlm.device_tests.quantities import size_text

    facts = listed.facts
    if facts is None:
        return
    emulated = "" if facts.provenance in ("real", "host") else f" ({facts.provenance})"
    yield f"{facts.model}{emulated}, {facts.system}, kernel {facts.kernel}"
    yield (
        f"{size_text(facts.ram_bytes)} RAM, {size_text(facts.available_bytes)} available, "
        f"{size_text(facts.swap_bytes)} swap; {size_text(facts.free_bytes)} free on disk"
    )
    features = [_SHOWN_AS.get(name, name) for name in _TELLING if name in facts.cpu_features]
    shown = f": {', '.join(features)}" if features else ""
    yield f"{facts.architecture}, {facts.cores} cores{shown}"
