"""pocketlm fit: will it fit, before anything is downloaded, built or sent?"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_tests.commands.fit_shown import Asked, print_fits
from device_tests.commands.flags import json_option
from device_tests.commands.planned_shape import planned_shape
from device_tests.errors import DeviceError
from runtime_py.terminal import is_verbose

if TYPE_CHECKING:
    from device_tests.fit.fitting import Fit
    from runtime_py.manifest import Manifest


@click.command("fit", short_help="Predict memory: a bundle or shape on devices.")
@click.argument("what", metavar="BUNDLE|CHECKPOINT|SHAPE")
@click.option(
    "--device",
    "device_names",
    multiple=True,
    metavar="PROFILE|TARGET",
    help="phone-4gb to phone-16gb, or a device as it is now: adb, ssh:HOST, host. Repeat for "
    "several. Default: all profiles.",
)
@click.option("--backend", metavar="NAME", help="Default: every backend.")
@click.option(
    "-c",
    "--context",
    type=int,
    help="Context length in tokens: of a shape, to build for; of a bundle, how much is used.",
)
@click.option("--recipe", help="Quantization recipe of a shape. Default: int4-g32.")
@click.option("--chunk", type=int, help="Prefill chunk size of a shape, in tokens. Default: 128.")
@click.option(
    "--kv",
    type=click.Choice(["float32", "int8"]),
    help="KV cache precision of a shape. Default: float32.",
)
@click.option(
    "--packed-cache",
    is_flag=True,
    help="As `profile --packed-cache` runs it: packed weights mapped from a file.",
)
@json_option
def fit(
    what: str,
    device_names: tuple[str, ...],
    backend: str | None,
    context: int | None,
    recipe: str | None,
    chunk: int | None,
    kv: str | None,
    packed_cache: bool,
    as_json: bool,
) -> None:
    """Predict the memory of a bundle, a checkpoint, or a published shape.

    A checkpoint is a folder or a hub id; only its config.json is read. Says for each device whether
    it fits, is tight, or will not fit, and what would make it fit. Exit code 1: it will not fit one
    of them.

    \b
    Examples:
      pocketlm fit gemma-3-1b --device phone-6gb
      pocketlm fit qwen3-4b --context 8192 --kv int8
      pocketlm fit ./qwen3-checkpoint --verbose
      pocketlm fit ./my-bundle --device adb --json
    """
    from device_tests.fit import fitting
    from device_tests.fit.memory_budget import find_budget, profiles
    from device_tests.fit.variants import variants

    built = (Path(what) / "manifest.json").exists()
    typed = {"--recipe": recipe, "--context": context, "--chunk": chunk, "--kv": kv}
    if built:
        manifest = _read_bundle(what, typed)
    else:
        manifest = _plan(what, context, recipe, chunk, kv)
    names = sorted(manifest.backends) if backend is None else [backend]
    if backend is not None and backend not in manifest.backends:
        known = ", ".join(sorted(manifest.backends))
        raise DeviceError(f"--backend {backend}: {what} has {known}")
    if packed_cache and "executorch" not in names:
        raise DeviceError("--packed-cache: only executorch keeps packed weights in a file")
    budgets = [find_budget(name) for name in device_names] or list(profiles())
    found = [
        fitting.fit(
            manifest,
            name,
            budget,
            variants(manifest, name),
            tokens=context if built else None,
            packed_cache=packed_cache and name == "executorch",
        )
        for name in names
        for budget in budgets
    ]
    if as_json:
        click.echo(json.dumps(_document(manifest, found), indent=1))
    else:
        asked = _asked_of_bundle(what, manifest, names) if built else _asked_of_plan(what, typed)
        print_fits(asked, manifest, found, verbose=is_verbose())
    if any(one.judgement.answer == "will not fit" for one in found):
        sys.exit(1)


def _read_bundle(folder: str, typed: dict[str, str | int | None]) -> "Manifest":
    from runtime_py.bundle import open_bundle

    # Only the manifest counts here; `verify` checks the files.
    manifest = open_bundle(folder, check_hashes=False).manifest
    for flag, value in typed.items():
        if value is not None and flag != "--context":
            raise DeviceError(
                f"{flag} {value}: {folder} is built already; name its shape to plan another"
            )
    context = typed["--context"]
    if context is not None and not 1 <= int(context) <= manifest.context_length:
        raise DeviceError(
            f"--context {context}: {folder} was built for 1 to {manifest.context_length} positions"
        )
    return manifest


def _plan(
    name: str, context: int | None, recipe: str | None, chunk: int | None, kv: str | None
) -> "Manifest":
    from edge_build.planned_manifest import BuildChoices, plan_manifest
    from edge_build.quantization.recipes import DEFAULT_RECIPE

    shape = planned_shape(name)
    choices = BuildChoices(
        recipe=recipe or DEFAULT_RECIPE,
        context_length=context,
        chunk=chunk,
        kv="int8" if kv == "int8" else "float32",
    )
    return plan_manifest(shape.name, shape.config, choices)


def _asked_of_bundle(folder: str, manifest: "Manifest", backends: list[str]) -> Asked:
    from device_tests.fit.variants import choices_of

    built = choices_of(manifest, backends[0])
    options: dict[str, str | int] = {
        "--recipe": built.recipe_name,
        "--context": manifest.context_length,
        "--chunk": manifest.prefill_chunk,
        "--kv": built.kv,
    }
    if len(manifest.backends) == 1:
        options["--backend"] = backends[0]
    return Asked(None, folder, options)


def _asked_of_plan(what: str, typed: dict[str, str | int | None]) -> Asked:
    from models import shapes

    options = {flag: value for flag, value in typed.items() if value is not None}
    can_be_built = (Path(what) / "config.json").is_file() or what not in shapes.NAMES
    return Asked(what if can_be_built else None, None, options)


def _document(manifest: "Manifest", found: "list[Fit]") -> dict[str, Any]:
    return {
        "name": manifest.name,
        "recipe": manifest.recipe,
        "context_length": manifest.context_length,
        "prefill_chunk": manifest.prefill_chunk,
        "fits": [
            {
                "backend": one.backend,
                "device": asdict(one.budget),
                "answer": one.judgement.answer,
                "reasons": one.judgement.reasons,
                "positions": one.positions.tokens,
                "dirty_bytes": one.prediction.dirty_bytes,
                "clean_bytes": one.prediction.clean_bytes,
                "load_peak_bytes": one.prediction.load_peak_bytes,
                "peak_bytes": one.prediction.peak_bytes,
                "parts": [asdict(part) for part in one.prediction.parts],
                "changes": [asdict(change) for change in one.changes],
            }
            for one in found
        ],
    }
