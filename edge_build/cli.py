"""pocketlm build, list and doctor. Heavy libraries are imported inside the commands."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pocketlm.edge_build import recipe_command
from pocketlm.edge_build.size_option import SizeOption
from pocketlm.edge_build.termination import stopped_by_sigterm

if TYPE_CHECKING:
    from pocketlm.edge_build.spec import KvOption

_POSITIVE = click.IntRange(min=1)


def _parse_options(values: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Turn BACKEND.OPTION=VALUE strings into backend → option → value."""
    options: dict[str, dict[str, str]] = {}
    for value in values:
        key, separator, chosen = value.partition("=")
        backend, dot, option = key.partition(".")
        if not (separator and dot and backend and option and chosen):
            raise click.BadParameter(f"{value!r} is not BACKEND.OPTION=VALUE", param_hint="-O")
        options.setdefault(backend, {})[option] = chosen
    return options


@click.command(short_help="Build a device bundle from a checkpoint.")
@click.argument("checkpoint")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Bundle to make.")
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    help="One of `pocketlm list backends`; repeat for several. Default: all.",
)
@click.option(
    "--recipe",
    metavar="NAME",
    help="Quantization recipe: a name of `pocketlm list recipes`, or a .toml file. Default: the "
    "grid that the checkpoint is on, or int8-head4 where it is on none.",
)
@click.option(
    "--bits-per-weight",
    type=click.FloatRange(min=1, max=16),
    help="Plan a mixed-precision recipe of so many bits a weight at most, as `pocketlm recipe` "
    "does, and keep it in the bundle as recipe.toml.",
)
@click.option(
    "--method",
    metavar="NAME",
    help="How codes and scales are chosen, one of `pocketlm list methods`. Default: the recipe's, "
    "round_to_nearest.",
)
@click.option(
    "--calibrate",
    "calibration_text",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Text for methods that need data, in UTF-8. Default: the model's own text, sampled.",
)
@click.option(
    "--calibration-tokens",
    type=_POSITIVE,
    help="Tokens of --calibrate that are read at most. Default: 16384.",
)
@click.option(
    "-c",
    "--context",
    "context_length",
    type=_POSITIVE,
    help="Context length in tokens. Default: the model's, at most 4096.",
)
@click.option("--chunk", type=_POSITIVE, help="Prefill chunk size in tokens. Default: 128.")
@click.option(
    "--logits-rows",
    type=_POSITIVE,
    help="Tokens of one call that may be drafts: a call of at most so many gives logits after "
    "each. Default: 8.",
)
@click.option(
    "--kv",
    type=click.Choice(["float32", "int8", "int8-local", "int8-global", "auto"]),
    default="float32",
    show_default=True,
    help="KV cache precision. int8-local and int8-global: of layers with a window, and of all "
    "others, only. auto: int8 where the build measures no loss by it.",
)
@click.option(
    "--golden-tokens", type=_POSITIVE, help="Greedy tokens recorded for verify. Default: 64."
)
@click.option(
    "-O",
    "--option",
    "options",
    multiple=True,
    metavar="BACKEND.OPTION=VALUE",
    help="Backend option, e.g. onnx.local-cache=ring.",
)
@click.option(
    "--max-ram",
    "max_ram_bytes",
    type=SizeOption(),
    metavar="SIZE",
    help="Refuse a build that would hold more memory, e.g. 4G or 3.5GiB.",
)
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Take tokenizer, template and generation settings from FOLDER.",
)
@click.option("--revision", help="Branch, tag or commit of a hub id. Default: its main branch.")
@click.option("--name", help="Name in the manifest. Default: the checkpoint's name.")
@click.option("--force", is_flag=True, help="Replace a bundle that is at --out already.")
@click.option(
    "--fresh", is_flag=True, help="Start over instead of continuing an interrupted build."
)
@click.option(
    "--no-cache",
    is_flag=True,
    help="Lower again, also what an earlier build of the same shapes lowered; keep nothing.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Check everything, print the plan and the memory of each stage; write nothing.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def build(
    checkpoint: str,
    out: Path,
    backends: tuple[str, ...],
    recipe: str | None,
    bits_per_weight: float | None,
    method: str | None,
    calibration_text: Path | None,
    calibration_tokens: int | None,
    context_length: int | None,
    chunk: int | None,
    logits_rows: int | None,
    kv: "KvOption",
    golden_tokens: int | None,
    options: tuple[str, ...],
    max_ram_bytes: int | None,
    tokenizer: Path | None,
    revision: str | None,
    name: str | None,
    force: bool,
    fresh: bool,
    no_cache: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Build a device bundle from CHECKPOINT, a folder in Hugging Face format, a GGUF file or a
    hub id.

    The codes of a checkpoint that is quantized already are kept: GGUF, GPTQ, AWQ,
    compressed-tensors, and weights of quantization-aware training.

    `pico` is the embedded model, unless a folder has that name.

    An interrupted build keeps its finished stages; the same command continues it.

    \b
    pocketlm build pico --out pico-bundle
    pocketlm build ./gemma-3-1b-it --out gemma --backend onnx --context 2048
    pocketlm build ./qwen3 --out qwen --recipe int4-g128 --chunk 64 --json
    pocketlm build ./gemma-3-1b-it --out gemma --method gptq --calibrate book.txt
    pocketlm build ./gemma-3-1b-it --out gemma --bits-per-weight 6 --method gptq
    pocketlm build ./gemma-3-1b-it --out gemma --context 32768 --kv auto
    pocketlm build ./gemma-3-1b-it-Q4_0.gguf --out gemma --backend onnx
    pocketlm build ./gemma-3-1b-it --out gemma --dry-run     print memory
    pocketlm build ./gemma-3-1b-it --out gemma --max-ram 4G  memory limit
    """
    from pocketlm.edge_build.installation import require_build_tools

    require_build_tools(backends)
    from pocketlm.edge_build.build import build as run_build
    from pocketlm.edge_build.console import report_build, report_plan
    from pocketlm.edge_build.memory_limit import estimate_memory
    from pocketlm.edge_build.preparation import prepare
    from pocketlm.edge_build.progress_display import shown_progress
    from pocketlm.edge_build.spec import BuildSpec
    from pocketlm.models.hub import resolve

    parsed_options = _parse_options(options)
    spec = BuildSpec(
        checkpoint=resolve(checkpoint, revision),
        out=out,
        backends=backends,
        recipe=recipe,
        bits_per_weight=bits_per_weight,
        method=method,
        calibration_text=calibration_text,
        calibration_tokens=calibration_tokens,
        context_length=context_length,
        chunk=chunk,
        logits_rows=logits_rows,
        kv=kv,
        golden_tokens=golden_tokens,
        backend_options=parsed_options,
        max_ram_bytes=max_ram_bytes,
        tokenizer=tokenizer,
        name=name,
        replace=force,
        fresh=fresh,
        use_cache=not no_cache,
    )
    if dry_run:
        prepared = prepare(spec)
        memory = estimate_memory(prepared)
        report_plan(prepared, memory, as_json)
        memory.check(lambda event: None)
        return
    with stopped_by_sigterm(), shown_progress() as shown:
        manifest = run_build(spec, shown.notify)
    report_build(manifest, out, shown.reports, as_json)


@click.command(short_help="Check what is installed, extra by extra.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def doctor(as_json: bool) -> None:
    """Check what is installed: pocketlm itself and each of its extras.

    Prints what is missing and the command that installs it; --verbose shows every
    package. Exit code 1: bundles cannot be run, or a package of an extra that is
    installed has a wrong version. An extra that is not installed is no failure.

    \b
    pocketlm doctor
    pocketlm doctor --json
    """
    from pocketlm.edge_build.installation import inspect_installation, inspect_machine
    from pocketlm.edge_build.installation_report import report_installation

    extras = inspect_installation()
    # Who only runs bundles needs no extra.
    ok = extras[0].state == "ok" and all(extra.state != "wrong version" for extra in extras)
    report_installation(inspect_machine(), extras, ok=ok, as_json=as_json)
    if not ok:
        sys.exit(1)


COMMANDS = (build, recipe_command.recipe, doctor)
