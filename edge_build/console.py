"""What a build prints on stdout: its plan, and its result."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table

from pocketlm.edge_build.byte_sizes import shown_size
from pocketlm.edge_build.kv_rule import largest_kl
from pocketlm.edge_build.memory_limit import MemoryEstimate
from pocketlm.edge_build.preparation import Preparation
from pocketlm.edge_build.progress import StageReport
from pocketlm.edge_build.quantization.quality import summarize
from pocketlm.runtime_py.kv_choice import kv_choice_of
from pocketlm.runtime_py.manifest import BackendEntry, Manifest
from pocketlm.runtime_py.terminal import make_console, say


def report_plan(prepared: Preparation, memory: MemoryEstimate, as_json: bool) -> None:
    """Print what a build would make, and the memory that it would take."""
    # With --kv auto the most that it may choose.
    kv_bytes = {
        b.name: b.stored(prepared.caches, prepared.kv_choices(b)[0]).size_bytes
        for b in prepared.backends
    }
    plan = {
        "checkpoint": str(prepared.checkpoint.folder),
        "backends": [backend.name for backend in prepared.backends],
        "recipe": prepared.recipe.name,
        "parameters": prepared.parameters,
        "context_length": prepared.caches.context_length,
        "prefill_chunk": prepared.caches.chunk,
        "kv": prepared.spec.kv,
        "kv_cache_bytes": kv_bytes,
        "weight_bytes": prepared.weight_bytes,
        "disk_needed_bytes": prepared.disk_bytes,
        "notes": [*prepared.notes, *_kv_notes(prepared)],
    }
    if as_json:
        click.echo(json.dumps({**plan, "memory": _memory_document(memory)}, indent=1))
        return
    for name, value in plan.items():
        if isinstance(value, dict):
            value = [f"{key} {item}" for key, item in value.items()]
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        say(f"{name:20} {shown}")
    _print_memory(memory)


def _kv_notes(prepared: Preparation) -> tuple[str, ...]:
    if not prepared.measures_kv:
        return ()
    return ("--kv auto: the build measures what caches are kept in; kv_cache_bytes is the most",)


def report_build(
    manifest: Manifest, out: Path, stages: Sequence[StageReport], as_json: bool
) -> None:
    """Print what was built and what it took: one document, or tables."""
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
                    "kv": kv_choice_of(entry.caches).name,
                    "kv_measured": [asdict(one) for one in entry.kv_measured],
                }
                for name, entry in manifest.backends.items()
            },
            "stages": [asdict(stage) for stage in stages],
        }
        click.echo(json.dumps(document, indent=1))
        return
    console = make_console()
    worst = f", worst tensor {quality['worst_sqnr_db']} dB" if "worst_sqnr_db" in quality else ""
    console.print(
        f"{out}: {quality['parameters'] / 1e6:,.1f} M parameters, {manifest.recipe}, "
        f"{quality['bits_per_weight']} bits a weight{worst}; "
        f"context {manifest.context_length}, chunk {manifest.prefill_chunk}"
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
    if any(entry.kv_measured for entry in manifest.backends.values()):
        console.print(_kv_table(manifest))
    console.print(_stage_table(stages))
    for note in manifest.notes:
        console.print(f"note: {note}")


def _memory_document(memory: MemoryEstimate) -> dict[str, object]:
    return {
        "peak_bytes": memory.peak_bytes,
        "available_bytes": memory.available_bytes,
        "max_ram_bytes": memory.max_ram_bytes,
        "stages": [
            {
                "name": stage.name,
                "peak_bytes": stage.peak_bytes,
                "terms": [asdict(term) for term in stage.terms],
            }
            for stage in memory.stages
        ],
    }


def _print_memory(memory: MemoryEstimate) -> None:
    click.echo("predicted memory:")
    for stage in memory.stages:
        click.echo(f"  {stage.name:14} {shown_size(stage.peak_bytes):>8}")
        for term in stage.terms:
            click.echo(f"  {'':14} {shown_size(term.size_bytes):>8}  {term.what}")
    click.echo(f"  {'peak':14} {shown_size(memory.peak_bytes):>8}  in stage {memory.highest.name}")
    click.echo(f"  {'available':14} {shown_size(memory.available_bytes):>8}  in addition")


def _kv_table(manifest: Manifest) -> Table:
    """Return what `--kv auto` tried, and what it chose."""
    table = Table("backend", "--kv", "KV cache MB", "KL divergence, nats", "")
    for name, entry in manifest.backends.items():
        chosen = kv_choice_of(entry.caches).name
        for one in entry.kv_measured:
            remark = "chosen" if one.kv == chosen else ""
            if one.kl_nats > largest_kl(entry.kv_measured):
                remark = "loses too much"
            size = f"{one.size_bytes / 1e6:,.2f}"
            table.add_row(name, one.kv, size, f"{one.kl_nats:.5f}", remark)
    return table


def _stage_table(stages: Sequence[StageReport]) -> Table:
    table = Table("stage", "wall s", "peak memory", "")
    for stage in stages:
        remark = "done by an earlier run" if stage.reused else ""
        table.add_row(stage.name, f"{stage.wall_s:,.1f}", shown_size(stage.peak_bytes), remark)
    return table


def _backend_bytes(manifest: Manifest, backend: str) -> int:
    """Return the bytes of an artifact, its tokenizer files left out."""
    return sum(
        file.size_bytes
        for file in manifest.files
        if file.path.startswith(f"{backend}/") and "/tokenizer" not in file.path
    )


def _cache_kinds(entry: BackendEntry) -> str:
    counts = Counter((cache.kind, cache.capacity, cache.dtype) for cache in entry.caches)
    return ", ".join(
        f"{n} x {kind} of {slots}" + (f" in {dtype}" if dtype != "float32" else "")
        for (kind, slots, dtype), n in counts.items()
    )
