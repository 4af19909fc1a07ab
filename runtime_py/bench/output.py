"""The table as Markdown, JSON or CSV, with the columns of llama-bench."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from pocketlm.runtime_py.bench.measuring import Bench, BenchRow
from pocketlm.runtime_py.bench.noise import BUSY_SHARE
from pocketlm.runtime_py.manifest import Manifest
from pocketlm.runtime_py.sizes import size_text

FORMATS = ("md", "json", "csv")


@dataclass(frozen=True)
class BenchSubject:
    """What was measured.

    Attributes:
        size_bytes: of all weights.
        parameters: of all weights, counted.
    """

    model: str
    recipe: str
    size_bytes: int
    parameters: int
    backend: str
    threads: int | None
    draft: str

    @classmethod
    def of(
        cls, manifest: Manifest, backend: str, threads: int | None, draft: str
    ) -> "BenchSubject":
        """Return a bundle's."""
        return cls(
            model=manifest.name,
            recipe=manifest.recipe,
            size_bytes=sum(tensor.size_bytes for tensor in manifest.tensors),
            parameters=sum(prod(tensor.shape) for tensor in manifest.tensors),
            backend=backend,
            threads=threads,
            draft=draft,
        )


def shown(subject: BenchSubject, bench: Bench, form: str) -> str:
    """Return the results in one of FORMATS."""
    return {"md": _markdown, "json": _json, "csv": _csv}[form](subject, bench)


def busy_note(bench: Bench) -> str | None:
    """Return what to say of a machine that was busy; None if it was not."""
    if bench.foreign_share <= BUSY_SHARE:
        return None
    return (
        f"the machine was busy: other programs took {bench.foreign_share:.0%} of its processor "
        "time, so these speeds are too low; close them and measure again"
    )


def _markdown(subject: BenchSubject, bench: Bench) -> str:
    header = ("model", "size", "params", "backend", "threads", "test", "t/s")
    has_drafts = subject.draft != "off"
    lines = [[*header, "draft", "accepted"] if has_drafts else list(header)]
    for row in bench.rows:
        cells = [
            f"{subject.model} {subject.recipe}",
            size_text(subject.size_bytes),
            f"{subject.parameters / 1e6:.2f} M",
            subject.backend,
            "all" if subject.threads is None else str(subject.threads),
            row.test.name,
            f"{row.tokens_per_s:.2f} ± {row.deviation:.2f}",
        ]
        if has_drafts:
            cells += [subject.draft, _accepted(row)] if row.test.kind == "tg" else ["", ""]
        lines.append(cells)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    table = [_row(line, widths) for line in lines]
    numbers = {"size", "params", "threads", "test", "t/s", "accepted"}
    rules = (
        "-" * (width + 1) + (":" if name in numbers else "-")
        for name, width in zip(lines[0], widths, strict=True)
    )
    table.insert(1, "|" + "|".join(rules) + "|")
    first = bench.first_token_s
    table += ["", f"load {bench.load_s:.2f} s"]
    table[-1] += "" if first is None else f", first token after {first:.3f} s"
    table[-1] += f", resident {size_text(bench.resident_bytes)}"
    return "\n".join(table)


def _row(cells: list[str], widths: list[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "| " + " | ".join(padded) + " |"


def _accepted(row: BenchRow) -> str:
    return f"{row.accepted} of {row.drafted}"


def _document(subject: BenchSubject, row: BenchRow) -> Mapping[str, object]:
    return {
        **vars(subject),
        "test": row.test.name,
        "kind": row.test.kind,
        "tokens": row.test.tokens,
        "depth": row.test.depth,
        "tokens_per_s": row.tokens_per_s,
        "median_tokens_per_s": row.median_tokens_per_s,
        "deviation_tokens_per_s": row.deviation,
        "drafted_tokens": row.drafted,
        "accepted_tokens": row.accepted,
    }


def _whole(bench: Bench) -> Mapping[str, object]:
    return {
        "load_s": bench.load_s,
        "first_token_s": bench.first_token_s,
        "resident_bytes": bench.resident_bytes,
        "foreign_share": bench.foreign_share,
    }


def _json(subject: BenchSubject, bench: Bench) -> str:
    rows = [{**_document(subject, row), "seconds": list(row.seconds)} for row in bench.rows]
    return json.dumps({**_whole(bench), "tests": rows}, indent=1)


def _csv(subject: BenchSubject, bench: Bench) -> str:
    rows = [{**_document(subject, row), **_whole(bench)} for row in bench.rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().removesuffix("\n")
