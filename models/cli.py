"""The commands of this package: `checkpoint`, and what `list families` and `list shapes` show.

Imports heavy libraries only inside a command. ModelError passes through to pocketlm/cli.py.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

# Shorter work needs no progress bar.
_QUIET_S = 2.0


@click.command("checkpoint", short_help="Write a published shape with random weights.")
@click.argument("shape")
@click.option("--random", "is_random", is_flag=True, help="Draw the weights at random.")
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="New folder to write to."
)
@click.option("--layers", type=click.IntRange(min=1), help="Keep only the first N layers.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Same seed, same weights.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def checkpoint_command(
    shape: str, is_random: bool, out: Path, layers: int | None, seed: int, as_json: bool
) -> None:
    """Write a checkpoint of a published SHAPE with random weights.

    It has the true sizes, so a bundle built from it has the true memory and speed; its text has
    no sense. `pocketlm list shapes` shows the shapes.

    \b
    Examples:
      pocketlm checkpoint gemma-3-270m --random --out gemma-270m-random
      pocketlm checkpoint qwen3-4b --random --layers 2 --out qwen-two-layers
    """
    from pocketlm.models import shapes
    from pocketlm.models.random_checkpoint import write_random_checkpoint
    from pocketlm.models.weight_shapes import parameter_count

    if not is_random:
        raise click.UsageError(
            "published weights are downloaded from their publisher; "
            "add --random for a checkpoint of the same shape with random weights"
        )
    chosen = shapes.load(shape)
    if layers is not None:
        chosen = shapes.with_layers(chosen, layers)
    with _progress(f"Writing {shape}") as advance:
        size_bytes = write_random_checkpoint(chosen, out, seed, advance=advance)
    result = {
        "shape": shape,
        "folder": str(out),
        "layers": chosen.config.num_layers,
        "parameters": parameter_count(chosen.config),
        "size_bytes": size_bytes,
        "seed": seed,
        "note": chosen.note,
    }
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    click.echo(
        f"{out}: {shape} with random weights, {result['layers']} layers, "
        f"{result['parameters']:,} parameters, {size_bytes / 1e9:.2f} GB"
    )
    if chosen.note:
        click.echo(chosen.note)


COMMANDS: tuple[click.Command, ...] = (checkpoint_command,)


def list_families() -> list[dict[str, str]]:
    """Return name and notes of each family, for `pocketlm list families`."""
    from pocketlm.models import families

    return [{"name": name, "note": " ".join(families.load(name).notes)} for name in families.NAMES]


def list_shapes() -> list[dict[str, str | int]]:
    """Return what `pocketlm list shapes` shows of each shape."""
    from pocketlm.models import shapes
    from pocketlm.models.weight_shapes import parameter_count

    rows: list[dict[str, str | int]] = []
    for shape in map(shapes.load, shapes.NAMES):
        rows.append(
            {
                "name": shape.name,
                "family": shape.model_type,
                "layers": shape.config.num_layers,
                "parameters": parameter_count(shape.config),
                "max_context": shape.config.max_position_embeddings,
                "note": shape.note,
            }
        )
    return rows


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import Progress

    started = time.monotonic()
    quiet = not logging.getLogger("pocketlm").isEnabledFor(logging.WARNING)  # -q
    bar = Progress(console=Console(stderr=True, quiet=quiet), transient=True)
    task = bar.add_task(label, total=None)

    def advance(done: int, total: int) -> None:
        if time.monotonic() - started > _QUIET_S:
            bar.start()  # again and again does no harm
            bar.update(task, completed=done, total=total)

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()
