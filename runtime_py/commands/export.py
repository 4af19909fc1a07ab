"""pocketlm export: the files that an app ships, for one runtime."""

import json
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pocketlm.runtime_py import engines
from pocketlm.runtime_py.commands.flags import bundle_argument, json_option
from pocketlm.runtime_py.terminal import bar_text, make_console, say

if TYPE_CHECKING:
    from pocketlm.runtime_py.app_facts import AppFacts
    from pocketlm.runtime_py.export import ExportedFile

_PAGE = "docs/in-an-app.md has the code"


@click.command(short_help="Copy the files that an app ships, for one runtime.")
@bundle_argument
@click.option(
    "--for",
    "runtime",
    required=True,
    type=click.Choice(engines.app_names()),
    help="What the app runs the model with.",
)
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="New folder to make."
)
@json_option
def export(folder: str, runtime: str, out: Path, as_json: bool) -> None:
    """Copy from BUNDLE just what an app needs, weights once, checked by sha256.

    Does not copy golden answers or the artifact of the other backend. Prints
    what the app's code has to know.

    \b
    pocketlm export pico --for executorch-android --out app/models/pico
    pocketlm export pico --for genai --out pico-genai --json
    """
    from rich.progress import Progress

    from pocketlm.runtime_py.app_facts import app_facts
    from pocketlm.runtime_py.bundle import read_bundle
    from pocketlm.runtime_py.export import export as run_export

    bundle = read_bundle(folder)
    backend = engines.load_app(runtime).backend
    facts = app_facts(bundle, backend)
    with Progress(console=make_console(stderr=True), transient=True) as progress:
        task = progress.add_task("copying", total=None)

        def copied(done: int, total: int, path: str) -> None:
            progress.update(
                task, completed=done, total=total, description=bar_text(f"copying {path}")
            )

        files = run_export(bundle, runtime, out, copied)
    artifact = bundle.backend(backend).model
    model = next(file.path for file in files if file.entry.path == artifact)
    document = _document(runtime, out, files, facts, model)
    if as_json:
        click.echo(json.dumps(document, indent=1))
    else:
        _print(document, facts)


def _document(
    runtime: str, out: Path, files: "tuple[ExportedFile, ...]", facts: "AppFacts", model: str
) -> dict[str, Any]:
    # Older bundles may name no version.
    known = defaultdict(str, model=model, **facts.least_versions)
    return {
        "for": runtime,
        "folder": str(out),
        "model": model,
        "files": [
            {"path": f.path, "size_bytes": f.entry.size_bytes, "sha256": f.entry.sha256}
            for f in files
        ],
        "size_bytes": sum(file.entry.size_bytes for file in files),
        **asdict(facts),
        "next_step": f"{engines.load_app(runtime).next_step.format_map(known)}; {_PAGE}",
    }


def _print(document: dict[str, Any], facts: "AppFacts") -> None:
    say(f"{document['folder']}: {document['size_bytes'] / 1e6:,.2f} MB")
    for file in document["files"]:
        say(f"  {file['path']:28} {file['size_bytes'] / 1e6:>10,.2f} MB")
    stops = ", ".join(
        f"{token!r} ({number})"
        for token, number in zip(facts.stop_tokens, facts.stop_ids, strict=True)
    )
    bos = "none" if facts.bos_id is None else f"token {facts.bos_id}, once, first"
    lines = {
        "needs": ", ".join(f"{k} >= {v}" for k, v in facts.least_versions.items()) + "; CPU only",
        "context": f"{facts.context_length} tokens, prefill in chunks of {facts.prefill_chunk}",
        "BOS": bos,
        "stop tokens": stops,
        "chat prompt": "no template" if facts.chat_prompt is None else repr(facts.chat_prompt),
        "rewind": _rewind(facts.rewind_tokens),
    }
    if engines.load_app(document["for"]).takes_max_length:
        lines["max_length"] = f"{facts.least_max_length} to {facts.context_length}"
    if facts.environment:
        lines["environment"] = ", ".join(f"{k}={v}" for k, v in facts.environment.items())
    for name, value in (*lines.items(), ("next", document["next_step"])):
        say(f"{name:12} {value}")


def _rewind(tokens: int | None) -> str:
    if tokens is None:
        return "any distance"
    if tokens == 0:
        return "not once a window is full; start again then"
    return f"at most {tokens} tokens; start again for more"
