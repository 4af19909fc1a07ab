"""pocketlm build, list and doctor. Heavy libraries are imported inside the commands."""

import json
import sys
from importlib import import_module
from pathlib import Path

import click


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


@click.command()
@click.argument("checkpoint")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Bundle to make.")
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    help="executorch or onnx; repeat for several. Default: all.",
)
@click.option("--recipe", default="int4-g32", show_default=True, help="Name, or a .toml file.")
@click.option(
    "--context", "context_length", type=int, help="Positions. Default: the model's, at most 4096."
)
@click.option("--chunk", type=int, help="Most tokens in one call. Default: 128.")
@click.option("--golden-tokens", type=int, help="Greedy tokens recorded for verify. Default: 64.")
@click.option(
    "-O",
    "--option",
    "options",
    multiple=True,
    metavar="BACKEND.OPTION=VALUE",
    help="Backend option, e.g. onnx.local-cache=ring.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and print the plan; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def build(
    checkpoint: str,
    out: Path,
    backends: tuple[str, ...],
    recipe: str,
    context_length: int | None,
    chunk: int | None,
    golden_tokens: int | None,
    options: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Build a device bundle from CHECKPOINT, a folder in Hugging Face format or a hub id.

    \b
    pocketlm build models/pico --out pico
    pocketlm build ./gemma-3-1b-it --out gemma --backend onnx --context 2048
    pocketlm build ./qwen3 --out qwen --recipe int4-g128 --chunk 64 --json
    """
    from edge_build.build import build as run_build
    from edge_build.console import report_build, report_plan, shown_progress
    from edge_build.preparation import prepare
    from edge_build.spec import BuildSpec
    from models.hub import resolve

    parsed_options = _parse_options(options)
    spec = BuildSpec(
        checkpoint=resolve(checkpoint),
        out=out,
        backends=backends,
        recipe=recipe,
        context_length=context_length,
        chunk=chunk,
        golden_tokens=golden_tokens,
        backend_options=parsed_options,
    )
    if dry_run:
        report_plan(prepare(spec), as_json)
        return
    with shown_progress() as advance:
        manifest = run_build(spec, advance)
    report_build(manifest, out, as_json)


@click.command("list")
@click.argument("what", type=click.Choice(["families", "recipes", "backends", "shapes"]))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_command(what: str, as_json: bool) -> None:
    """List what pocketlm knows.

    \b
    pocketlm list recipes
    pocketlm list shapes --json
    """
    homes = {
        "backends": "edge_build.backends",
        "families": "models.families",
        "recipes": "edge_build.quantization.recipes",
        "shapes": "models.shapes",
    }
    names: tuple[str, ...] = import_module(homes[what]).NAMES
    click.echo(json.dumps({what: list(names)}) if as_json else "\n".join(names))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def doctor(as_json: bool) -> None:
    """Check that what building and running need is installed; exit code 1 if not.

    \b
    pocketlm doctor
    pocketlm doctor --json
    """
    from edge_build.installation import inspect_installation

    checks = inspect_installation()
    if as_json:
        document = [
            {"name": c.name, "found": c.found, "wanted": c.wanted, "ok": c.ok} for c in checks
        ]
        click.echo(json.dumps({"checks": document, "ok": all(c.ok for c in checks)}, indent=1))
    else:
        for check in checks:
            mark = "ok     " if check.ok else "MISSING"
            click.echo(f"{mark} {check.name:20} {check.found:24} {check.wanted}")
    if not all(check.ok for check in checks):
        sys.exit(1)


COMMANDS = (build, list_command, doctor)
