"""What a build shows: progress on stderr, the result on stdout."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from edge_build.preparation import Preparation
from edge_build.progress import Advance
from edge_build.quantization.quality import summarize
from runtime_py.manifest import BackendEntry, Manifest


@contextmanager
def shown_progress() -> Iterator[Advance]:
    """Show one bar a stage on stderr; a line a stage where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.fields[stage]:12}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[what]}"),
    )
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def advance(stage: str, done: int, total: int, what: str) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task("", total=total, stage=stage, what=what)
            progress.update(tasks[stage], completed=done, total=total, what=what)

        yield advance


def report_plan(prepared: Preparation, as_json: bool) -> None:
    """Print what a build would make."""
    kv_bytes = sum(layer.size_bytes for layer in prepared.caches.layers)
    plan = {
        "checkpoint": str(prepared.checkpoint.folder),
        "backends": [backend.name for backend in prepared.backends],
        "recipe": prepared.recipe.name,
        "parameters": prepared.parameters,
        "context_length": prepared.caches.context_length,
        "prefill_chunk": prepared.caches.chunk,
        "kv_cache_bytes": kv_bytes,
        "weight_bytes": prepared.weight_bytes,
        "disk_needed_bytes": prepared.disk_bytes,
        "notes": [*prepared.checkpoint.notes, *prepared.text.notes],
    }
    if as_json:
        click.echo(json.dumps(plan, indent=1))
        return
    for name, value in plan.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        click.echo(f"{name:20} {shown}")


def report_build(manifest: Manifest, out: Path, as_json: bool) -> None:
    """Print what was built: one document, or a table a backend."""
    quality = summarize(manifest.tensors)
    if as_json:
        document = {
            "bundle": str(out),
            "recipe": manifest.recipe,
            "context_length": manifest.context_length,
            "prefill_chunk": manifest.prefill_chunk,
            "quantization": quality,
            "notes": list(manifest.notes),
            "backends": {
                name: {
                    "size_bytes": _backend_bytes(manifest, name),
                    "kv_cache_bytes": entry.kv_cache_bytes,
                }
                for name, entry in manifest.backends.items()
            },
        }
        click.echo(json.dumps(document, indent=1))
        return
    console = Console()
    worst = f", worst tensor {quality['worst_sqnr_db']} dB" if "worst_sqnr_db" in quality else ""
    console.print(
        f"{out}: {quality['parameters'] / 1e6:,.1f} M parameters, {manifest.recipe}, "
        f"{quality['bits_per_weight']} bits a weight{worst}; "
        f"context {manifest.context_length}, chunk {manifest.prefill_chunk}",
        highlight=False,
    )
    table = Table("backend", "artifact MB", "KV cache MB", "caches")
    for name, entry in manifest.backends.items():
        table.add_row(
            name,
            f"{_backend_bytes(manifest, name) / 1e6:,.1f}",
            f"{entry.kv_cache_bytes / 1e6:,.2f}",
            _cache_kinds(entry),
        )
    console.print(table)
    for note in manifest.notes:
        console.print(f"note: {note}", highlight=False)


def _backend_bytes(manifest: Manifest, backend: str) -> int:
    return sum(f.size_bytes for f in manifest.files if f.path.startswith(f"{backend}/"))


def _cache_kinds(entry: BackendEntry) -> str:
    counts: dict[tuple[str, int], int] = {}
    for cache in entry.caches:
        counts[cache.kind, cache.capacity] = counts.get((cache.kind, cache.capacity), 0) + 1
    return ", ".join(f"{n} x {kind} of {slots}" for (kind, slots), n in counts.items())
