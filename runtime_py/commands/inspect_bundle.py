"""pocketlm inspect: what is in a bundle, and what it will take in memory."""

import json
from typing import TYPE_CHECKING, Any

import click

from pocketlm.runtime_py.commands.flags import bundle_argument, json_option
from pocketlm.runtime_py.terminal import share_text

if TYPE_CHECKING:
    from pocketlm.runtime_py.bundle import Bundle


@click.command("inspect", short_help="Show what a bundle holds and needs in memory.")
@bundle_argument
@json_option
def inspect_bundle(folder: str, as_json: bool) -> None:
    """Show BUNDLE's manifest, bytes per part, caches, and memory on a phone with a full context.

    \b
    pocketlm inspect pico
    pocketlm inspect pico --json
    """
    from pocketlm.runtime_py.bundle import open_bundle

    bundle = open_bundle(folder, check_hashes=False)
    if as_json:
        click.echo(json.dumps(_document(bundle), indent=1))
    else:
        _print(bundle)


def _document(bundle: "Bundle") -> dict[str, Any]:
    from dataclasses import asdict

    from pocketlm.runtime_py import inspection

    manifest = bundle.manifest
    backends = manifest.backends.items()
    return {
        "bundle": str(bundle.folder),
        "manifest": json.loads(manifest.to_json()),
        "file_parts": [asdict(part) for part in inspection.file_parts(manifest)],
        "weight_parts": [asdict(part) for part in inspection.weight_parts(manifest)],
        "own_grid_parts": [asdict(part) for part in inspection.own_grid_parts(manifest)],
        "cache_parts": [
            asdict(part)
            for name, entry in backends
            for part in inspection.cache_parts(name, entry.caches)
        ],
        "memory_parts": [asdict(part) for part in inspection.memory_parts(manifest)],
        "unquantized": [asdict(entry) for entry in inspection.unquantized(manifest)],
    }


def _print(bundle: "Bundle") -> None:
    from pocketlm.runtime_py.readings import reading_lines
    from pocketlm.runtime_py.terminal import make_console

    manifest = bundle.manifest
    console = make_console(soft_wrap=True)
    total = sum(entry.size_bytes for entry in manifest.files)
    console.print(
        f"{bundle.folder}: {manifest.name}, {manifest.model['model_type']}, "
        f"{len(manifest.model['layers'])} layers, vocabulary {manifest.vocab_size}; "
        f"recipe {manifest.recipe}; context {manifest.context_length}, chunk "
        f"{manifest.prefill_chunk}; {_mb(total)} MB"
    )
    for table in _tables(bundle):
        console.print(table)
    for line in reading_lines(manifest.readings) if manifest.readings else ():
        console.print(line)
    for note in manifest.notes:
        console.print(f"note: {note}")
    for name, value in sorted(manifest.build.items()):
        console.print(f"{name:20} {value}")


def _tables(bundle: "Bundle") -> list[Any]:
    from rich.table import Table

    from pocketlm.runtime_py import inspection

    manifest = bundle.manifest
    files = Table("files", "count", "MB")
    for part in inspection.file_parts(manifest):
        files.add_row(part.part, str(part.files), _mb(part.size_bytes))
    weights = Table("weights", "bits", "group", "tensors", "MB", "lowest SQNR dB")
    for weight in inspection.weight_parts(manifest):
        group = str(weight.group_size or ("row" if weight.bits < 32 else ""))
        sqnr = "" if weight.lowest_sqnr_db is None else f"{weight.lowest_sqnr_db:.1f}"
        bits, tensors = str(weight.bits), str(weight.tensors)
        weights.add_row(weight.part, bits, group, tensors, _mb(weight.size_bytes), sqnr)
    caches = Table("caches", "kind", "window", "slots", "type", "scales", "layers", "MB")
    for name, entry in manifest.backends.items():
        for cache in inspection.cache_parts(name, entry.caches):
            window, slots = str(cache.window or "all"), str(cache.capacity)
            layers, size = str(cache.layers), _mb(cache.size_bytes)
            scales = "" if cache.quantization == "none" else cache.quantization.replace("_", " ")
            caches.add_row(name, cache.kind, window, slots, cache.dtype, scales, layers, size)
    memory = Table("memory on a phone, context full", "part", "kind", "MB")
    for held in inspection.memory_parts(manifest):
        memory.add_row(held.backend, held.part, held.kind, _mb(held.size_bytes))
    full = Table("not quantized", "tensors", "MB", "why")
    for kept in inspection.unquantized_parts(manifest):
        full.add_row(kept.part, str(kept.tensors), _mb(kept.size_bytes), kept.reason)
    rules = Table("recipe, first match decides", "bits", "group", "why")
    for rule in manifest.recipe_rules:
        group = str(rule.group_size or ("row" if rule.bits < 32 else ""))
        rules.add_row(rule.pattern, str(rule.bits), group, rule.reason)
    shown = [files, weights, *_own_grids(bundle), caches, memory, full]
    return [*shown, rules] if manifest.recipe_rules else shown


def _own_grids(bundle: "Bundle") -> list[Any]:
    from rich.table import Table

    from pocketlm.runtime_py.inspection import own_grid_parts

    parts = own_grid_parts(bundle.manifest)
    table = Table("checkpoint's grid", "tensors", "groups", "on grid", "codes kept", "all kept")
    for part in parts:
        shares = (part.on_grid, part.codes_kept, part.kept)
        percents = (share_text(share, part.groups) for share in shares)
        table.add_row(part.part, str(part.tensors), f"{part.groups:,}", *percents)
    return [table] if parts else []


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.2f}"
