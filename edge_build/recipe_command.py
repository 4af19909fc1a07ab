"""pocketlm recipe. Heavy libraries are imported inside the command."""

import json
from pathlib import Path

import click

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.whole_file import write_whole
from pocketlm.runtime_py.terminal import say, step_bar


@click.command(short_help="Write a mixed-precision recipe for a checkpoint.")
@click.argument("checkpoint")
@click.option(
    "--bits-per-weight",
    required=True,
    type=click.FloatRange(min=1, max=16),
    help="Bits a weight at most, with scales.",
)
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="Recipe file, .toml."
)
@click.option(
    "--calibrate",
    "calibration_text",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Text to measure on, in UTF-8. Default: the model's own text where the method needs "
    "data, else a built-in one.",
)
@click.option(
    "--method",
    default="round_to_nearest",
    show_default=True,
    metavar="NAME",
    help="How the build will choose codes, one of `pocketlm list methods`.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def recipe(
    checkpoint: str,
    bits_per_weight: float,
    out: Path,
    calibration_text: Path | None,
    method: str,
    as_json: bool,
) -> None:
    """Write a recipe that spends bits where the KL divergence falls most.

    Each weight is quantized alone, and what the model loses is measured on a text. A few weights
    then get 8 bits or smaller groups, the others larger groups, within --bits-per-weight. The
    file is a recipe like any other: read it, edit it, build with it. Name the method that it is
    for: with gptq other weights need 8 bits than with round_to_nearest.

    An interrupted run goes on after the last weight that was measured; another --bits-per-weight
    measures nothing again. `pocketlm build --bits-per-weight` plans and builds in one.

    \b
    pocketlm recipe ./gemma-3-1b --bits-per-weight 5 --method gptq -o mixed.toml
    pocketlm build ./gemma-3-1b --out gemma --recipe mixed.toml
    """
    from pocketlm.edge_build.installation import require_eager_models

    require_eager_models("recipe")
    from pocketlm.edge_build.mixed_precision.planning import plan_recipe
    from pocketlm.edge_build.mixed_precision.recipe_budget import RecipeBudget
    from pocketlm.models.checkpoint import open_checkpoint
    from pocketlm.models.hub import resolve

    _check_path(out)
    opened = open_checkpoint(resolve(checkpoint))
    budget = RecipeBudget.of(opened, bits_per_weight, method)
    with step_bar("recipe") as report:
        planned = plan_recipe(opened, budget, calibration_text, report)
    try:
        write_whole(out, planned.toml)
    except OSError as error:
        raise BuildError(f"--out {out}: cannot be written ({error.strerror})") from error
    if as_json:
        document = {
            "recipe": str(out),
            "bits_per_weight": planned.bits_per_weight,
            "predicted_kl_nats": planned.predicted_kl_nats,
            "weights": [
                {
                    "name": name,
                    "bits": choice.scheme.bits,
                    "group_size": choice.scheme.group_size,
                    "size_bytes": choice.size_bytes,
                    "kl_nats": choice.kl_nats,
                }
                for name, choice in planned.chosen.items()
            ],
        }
        click.echo(json.dumps(document, indent=1))
        return
    eight = sum(choice.scheme.bits == 8 for choice in planned.chosen.values())
    say(
        f"{out}: {planned.bits_per_weight:g} bits a weight; {eight} of {len(planned.chosen)} "
        f"weights in 8 bits; build with --recipe {out}"
    )


def _check_path(out: Path) -> None:
    if out.suffix != ".toml":
        raise BuildError(f"--out {out}: a recipe file ends in .toml, so that --recipe takes it")
    if out.exists() or out.is_symlink():
        raise BuildError(f"--out {out}: exists already; remove it or choose another name")
    if not out.absolute().parent.is_dir():
        raise BuildError(f"--out {out}: the folder does not exist; make it first")
