"""pocketlm fit: will it fit, before anything is downloaded, built or sent?"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pocketlm.device_tests.commands.fit_shown import Asked, print_fits
from pocketlm.runtime_py.commands.flags import json_option
from pocketlm.runtime_py.terminal import is_verbose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pocketlm.device_tests.fit.changes import Change
    from pocketlm.device_tests.fit.fitting import Fit
    from pocketlm.device_tests.fit.request import FitRequest
    from pocketlm.runtime_py.kv_choice import KvName
    from pocketlm.runtime_py.memory_inputs import MemoryInputs


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
@click.option("--recipe", help="Quantization recipe of a shape. Default: int8-head4.")
@click.option("--chunk", type=int, help="Prefill chunk size of a shape, in tokens. Default: 128.")
@click.option(
    "--kv",
    type=click.Choice(["float32", "int8", "int8-local", "int8-global"]),
    help="KV cache precision of a shape, as `build --kv` takes it. Default: float32.",
)
@click.option(
    "--packed-cache",
    is_flag=True,
    help="As `profile --packed-cache` runs it: packed weights mapped from a file.",
)
@click.option("--revision", help="Branch, tag or commit of a hub id. Default: its main branch.")
@json_option
def fit(
    what: str,
    device_names: tuple[str, ...],
    backend: str | None,
    context: int | None,
    recipe: str | None,
    chunk: int | None,
    kv: "KvName | None",
    packed_cache: bool,
    revision: str | None,
    as_json: bool,
) -> None:
    """Predict the memory of a bundle, a checkpoint, or a published shape.

    A checkpoint is a folder or a hub id; only its config.json is read. The result for each device:
    it fits, is tight (it runs, but the system kills other apps or reads file pages again), or will
    not fit (out of memory). Commands that make it fit follow. Exit code 1: it will not fit one of
    the devices.

    \b
    Examples:
      pocketlm fit gemma-3-1b --device phone-6gb
      pocketlm fit qwen3-4b --context 8192 --kv int8
      pocketlm fit ./qwen3-checkpoint --verbose
      pocketlm fit ./my-bundle --device adb --json
    """
    from pocketlm.device_tests.fit.request import FitRequest, predict_fits

    request = FitRequest(
        what, device_names, backend, context, recipe, chunk, kv, packed_cache, revision
    )
    inputs, found = predict_fits(request)
    if as_json:
        click.echo(json.dumps(_document(inputs, found), indent=1))
    else:
        asked = _asked_of_bundle(request, inputs) if request.is_built else _asked_of_plan(request)
        print_fits(asked, inputs, found, verbose=is_verbose())
    if any(one.result.status == "will not fit" for one in found):
        sys.exit(1)


def _asked_of_bundle(request: "FitRequest", inputs: "MemoryInputs") -> Asked:
    from pocketlm.device_tests.fit.variants import choices_of

    backend = request.backend or min(inputs.backends)
    built = choices_of(inputs, backend)
    options: dict[str, str | int] = {
        "--recipe": built.recipe_name,
        "--context": inputs.context_length,
        "--chunk": inputs.prefill_chunk,
        "--kv": built.kv.name,
    }
    if len(inputs.backends) == 1:
        options["--backend"] = backend
    return Asked(None, request.what, options)


def _asked_of_plan(request: "FitRequest") -> Asked:
    from pocketlm.models import shapes

    what, options = request.what, request.typed
    if request.revision is not None:
        options["--revision"] = request.revision
    can_be_built = (Path(what) / "config.json").is_file() or what not in shapes.NAMES
    return Asked(what if can_be_built else None, None, options)


def _document(inputs: "MemoryInputs", found: "Sequence[Fit]") -> dict[str, Any]:
    return {
        "name": inputs.name,
        "recipe": inputs.recipe,
        "context_length": inputs.context_length,
        "prefill_chunk": inputs.prefill_chunk,
        "fits": [
            {
                "backend": one.backend,
                "device": asdict(one.budget),
                "answer": one.result.status,
                "reasons": one.result.reasons,
                "positions": one.positions.tokens,
                "dirty_bytes": one.prediction.dirty_bytes,
                "clean_bytes": one.prediction.clean_bytes,
                "load_peak_bytes": one.prediction.load_peak_bytes,
                "peak_bytes": one.prediction.peak_bytes,
                "parts": [asdict(part) for part in one.prediction.parts],
                "changes": [_change_document(change) for change in one.changes],
            }
            for one in found
        ],
    }


def _change_document(change: "Change") -> dict[str, Any]:
    """Return a change with its status under the document's name for it."""
    names = {"status": "answer"}
    return {names.get(name, name): value for name, value in asdict(change).items()}
