"""pocketlm qat. Heavy libraries are imported inside the command."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pocketlm.edge_build.termination import stopped_by_sigterm
from pocketlm.runtime_py.terminal import say
from pocketlm.training.spec import (
    DEFAULT_BATCH,
    DEFAULT_LEARNING_RATE,
    DEFAULT_SAVE_EVERY,
    DEFAULT_SEQUENCE_LENGTH,
    DEFAULT_STEPS,
)

if TYPE_CHECKING:
    from pocketlm.training.training import QatResult

_POSITIVE = click.IntRange(min=1)
_FILE = click.Path(path_type=Path, dir_okay=False)


class _Targets(click.ParamType):
    """ "full", or a number of tokens."""

    name = "full|N"

    def convert(
        self, value: str | int | None, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        if value is not None and value != "full":
            if not str(value).isdecimal() or int(value) == 0:
                said = f"{value!r} is neither 'full' nor a number of tokens, such as 256"
                self.fail(said, param, ctx)
            return int(value)
        return None


@click.command(short_help="Train a checkpoint for its 4-bit grid.")
@click.argument("checkpoint")
@click.option("--text", required=True, type=_FILE, help="Text to train on, in UTF-8.")
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="Checkpoint to make."
)
@click.option(
    "--recipe",
    metavar="NAME",
    help="Quantization recipe, as in build: a name or a .toml file. Default: build's.",
)
@click.option(
    "--method",
    metavar="NAME",
    help="What chooses the codes to start from. Default: gptq, or a .toml file's own.",
)
@click.option(
    "--teacher", metavar="CHECKPOINT", help="A model with the same tokenizer. Default: CHECKPOINT."
)
@click.option(
    "--targets",
    type=_Targets(),
    default="full",
    show_default=True,
    help="Tokens of the teacher's distribution that are learned: all, or N drawn by it.",
)
@click.option("--steps", type=_POSITIVE, default=DEFAULT_STEPS, show_default=True)
@click.option(
    "--batch", type=_POSITIVE, default=DEFAULT_BATCH, show_default=True, help="Sequences of a step."
)
@click.option(
    "--sequence-length", type=_POSITIVE, default=DEFAULT_SEQUENCE_LENGTH, show_default=True
)
@click.option(
    "--learning-rate",
    type=float,
    default=DEFAULT_LEARNING_RATE,
    show_default=True,
    help="In codes of the grid.",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    help="Round activations as this backend does; repeat for several. Default: all, in turn.",
)
@click.option(
    "--kv",
    type=click.Choice(["float32", "int8", "int8-local", "int8-global"]),
    default="float32",
    show_default=True,
    help="KV cache precision that the bundle will have, as `build --kv` takes it.",
)
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), help="Default: a GPU where there is one."
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Of the products of matrices.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--save-every",
    type=_POSITIVE,
    default=DEFAULT_SAVE_EVERY,
    show_default=True,
    metavar="STEPS",
    help="Write the state that an interrupted training goes on from.",
)
@click.option("--fresh", is_flag=True, help="Start over instead of going on.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def qat(checkpoint: str, out: Path, text: Path, as_json: bool, **options: object) -> None:
    """Train CHECKPOINT so that it loses little on its 4-bit grid.

    The student has codes and scales, and rounds activations and caches as the backends do. It
    learns the probabilities of its teacher, the float model, on a text. The result is a checkpoint
    in the format of compressed-tensors, which build takes with its codes kept, and a picture of
    the loss.

    An interrupted training goes on with the same command. Many machines train with torchrun.

    \b
    pocketlm qat ./gemma-3-270m --text book.txt --out gemma-qat
    pocketlm build gemma-qat --out bundle
    pocketlm qat ./gemma-3-270m --text book.txt --out gemma-qat \\
        --recipe int4-g32 --steps 500 --targets 256
    torchrun --nproc-per-node 2 -m pocketlm qat pico --text book.txt --out qat
    """
    from pocketlm.edge_build.installation import require_eager_models

    require_eager_models("qat")
    from pocketlm.edge_build.progress_display import shown_progress
    from pocketlm.models.hub import resolve
    from pocketlm.training.spec import QatSpec
    from pocketlm.training.training import run_training

    teacher = options.pop("teacher")
    spec = QatSpec(
        checkpoint=resolve(checkpoint),
        out=out,
        text=text,
        teacher=None if teacher is None else resolve(str(teacher)),
        **options,  # type: ignore[arg-type]
    )
    with stopped_by_sigterm(), shown_progress() as shown:
        result = run_training(spec, shown.notify)
    if result is None:
        return
    if as_json:
        from dataclasses import asdict

        click.echo(json.dumps({"checkpoint": str(out), **asdict(result)}, indent=1))
        return
    say(*_lines(result, out))


def _lines(result: "QatResult", out: Path) -> list[str]:
    lines = [
        f"{out}: trained on {result.tokens:,} tokens in {result.steps} steps",
        f"  KL divergence from the teacher, {result.held_out_tokens:,} held-out tokens, in nats:",
    ]
    for way, points in result.held_out_kl_nats.items():
        lines.append(f"    {way:12} {points[0][1]:.4f} before, {points[-1][1]:.4f} after")
    if any(points[-1][1] > points[0][1] for points in result.held_out_kl_nats.values()):
        lines.append("  it is further away than before: give more --steps or a longer --text")
    return [*lines, f"  build it with its codes: pocketlm build {out} --out BUNDLE"]


COMMANDS = (qat,)
