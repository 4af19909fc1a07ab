"""pocketlm push: a bundle onto a device, each file checked there."""

import json
import shlex

import click

from pocketlm.device_tests.commands.flags import shown_progress, target_option
from pocketlm.runtime_py.commands.flags import bundle_argument, json_option
from pocketlm.runtime_py.terminal import say


@click.command("push", short_help="Send a bundle to a device.")
@bundle_argument
@target_option
@click.option(
    "--backend", "backends", multiple=True, metavar="NAME", help="Repeat for several. Default: all."
)
@json_option
def push(folder: str, target_name: str, backends: tuple[str, ...], as_json: bool) -> None:
    """Send BUNDLE to a device; files that are already there are not sent again.

    After an interruption, the same command continues the push.

    \b
    Examples:
      pocketlm push pico --on adb
      pocketlm push pico --on ssh:raspberrypi --backend onnx
    """
    from pocketlm.device_tests.device.targets import open_target
    from pocketlm.device_tests.runners.upload import upload_bundle
    from pocketlm.runtime_py.bundle import open_bundle

    bundle = open_bundle(folder)
    chosen = backends or tuple(sorted(bundle.manifest.backends))
    for name in chosen:
        bundle.backend(name)
    target = open_target(target_name)
    try:
        with shown_progress() as progress:
            uploaded = upload_bundle(target, bundle, chosen, progress.sending)
    finally:
        target.close()
    if as_json:
        click.echo(
            json.dumps(
                {"target": target.name, "folder": str(uploaded), "backends": chosen}, indent=1
            )
        )
    else:
        say(f"{bundle.manifest.name} is on {target.name}, in {uploaded}")
        say(f"next: pocketlm profile {shlex.quote(folder)} --on {target.name}")
        say(f"to remove it: pocketlm jobs remove all --on {target.name}")
