"""pocketlm inspect: a bundle, which runtime_py shows, or a checkpoint, which models reads."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pocketlm.models.errors import ModelError
from pocketlm.runtime_py.commands.flags import bundle_argument, json_option
from pocketlm.runtime_py.commands.inspect_bundle import inspect_bundle
from pocketlm.runtime_py.terminal import say

if TYPE_CHECKING:
    from pocketlm.models.checkpoint_summary import CheckpointSummary


@click.command("inspect", short_help="Show what a bundle or a checkpoint holds.")
@bundle_argument
@click.option("--revision", help="Branch, tag or commit of a hub id. Default: its main branch.")
@json_option
@click.pass_context
def inspect(context: click.Context, folder: str, revision: str | None, as_json: bool) -> None:
    """Show BUNDLE's manifest, bytes per part, caches, and memory on a phone with a full context.

    BUNDLE may also be a checkpoint that is not built yet: a folder, a GGUF file, a hub id or a
    published shape.
    Of these only config.json and the headers of the weights are read; no weight is downloaded.

    \b
    pocketlm inspect ./my-bundle
    pocketlm inspect ./my-bundle --json
    pocketlm inspect google/gemma-3-1b-it --revision main
    pocketlm inspect ./gemma-3-1b-it-Q4_0.gguf
    """
    if not _is_checkpoint(folder):
        if revision is not None:
            raise ModelError(
                f"--revision {revision}: {folder} is no hub id, and only these have revisions; "
                "leave it out"
            )
        context.invoke(inspect_bundle, folder=folder, as_json=as_json)
        return
    from pocketlm.models.checkpoint_summary import summarize_checkpoint

    summary = summarize_checkpoint(folder, revision)
    if as_json:
        click.echo(json.dumps({"checkpoint": folder, **asdict(summary)}, indent=1))
    else:
        _print(folder, summary)


def _is_checkpoint(what: str) -> bool:
    from pocketlm.models import shapes
    from pocketlm.models.hub import is_checkpoint_name, is_gguf

    if is_gguf(Path(what)):
        return True
    if Path(what).exists():
        return (Path(what) / "config.json").is_file() and not (
            Path(what) / "manifest.json"
        ).exists()
    return what in shapes.NAMES or is_checkpoint_name(what)


def _print(what: str, summary: "CheckpointSummary") -> None:
    from pocketlm.edge_build.quantization import recipes

    config = summary.config
    commit = f", commit {summary.commit}" if summary.commit else ""
    say(f"{what}: {summary.name}{commit}")
    local = [layer.window for layer in config.layers if layer.window is not None]
    layers = f"{config.num_layers}"
    if local:
        layers += f", {len(local)} of them with a window of {max(local)} tokens"
    every = config.layers
    queries = _each(layer.num_attention_heads for layer in every)
    heads = f"{queries} query, {_each(layer.num_key_value_heads for layer in every)} key/value"
    rows = {
        "family": config.model_type,
        "parameters": f"{summary.parameters:,}",
        "layers": layers,
        "hidden size": f"{config.hidden_size:,}",
        "feed-forward size": _each(layer.intermediate_size for layer in every),
        "heads": f"{heads}; head size {_each(layer.head_dim for layer in every)}",
        "vocabulary": f"{config.vocab_size:,}",
        "longest context": f"{config.max_position_embeddings:,} tokens",
        "tied embeddings": "yes" if config.tie_word_embeddings else "no",
        "stored tensors": _stored(summary),
        "recipes": ", ".join(recipes.NAMES),
    }
    for name, value in rows.items():
        say(f"{name:18} {value}")
    for note in summary.notes:
        say(f"note: {note}")


def _each(sizes: Iterable[int]) -> str:
    """Return the sizes that layers have, in order of first use."""
    return " or ".join(f"{size:,}" for size in dict.fromkeys(sizes))


def _stored(summary: "CheckpointSummary") -> str:
    if not summary.stored_tensors:
        return "not read"
    return "; ".join(
        f"{count} {dtype} with {summary.stored_parameters[dtype]:,} parameters"
        for dtype, count in sorted(summary.stored_tensors.items())
    )
