"""Results as tables: for the terminal, and between the README's markers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import ratio
from benchmarks.processes import SuiteError

BEGIN, END = "<!-- benchmark table -->", "<!-- end benchmark table -->"
_COLUMNS = (
    "system", "prefill, tokens/s", "decode, tokens/s", "model memory, MB",
    "anonymous + file", "interpreter, MB", "load, s", "first token, s", "file, MB", "build, s",
    "build peak, GB",
)  # fmt: skip

Entry = Mapping[str, Any]
Part = Mapping[str, Any]


def render(document: Mapping[str, Any]) -> str:
    """Return a result's tables as Markdown, one a part, with ratios to its baseline."""
    parts = [_part(name, part, document) for name, part in document["parts"].items()]
    return "\n\n".join(parts)


def write_between_markers(path: Path, table: str) -> None:
    """Put a table between the markers of a Markdown file.

    Raises:
        SuiteError: the file has no such pair.
    """
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SuiteError(f"{path.name}: has no {BEGIN} … {END}; add both lines, or drop --readme")
    path.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def _part(name: str, part: Part, document: Mapping[str, Any]) -> str:
    depths = _depths(part)
    baseline = _baseline(part, document["baseline"])
    title = (
        f"{document['shape']}, {name}: context {part['context_length']}, {document['threads']} "
        "threads"
    )
    if depths:
        title += f", decode after {', '.join(f'{depth:,}' for depth in depths)} tokens"
    if baseline is not None:
        title += f"; × is against {document['baseline']}"
    bandwidth = part["read_bytes_per_s"]
    if bandwidth is not None:
        title += f"; memory is read at {bandwidth['median'] / 1e9:.1f} GB/s"
    lines = [title, "", "| " + " | ".join(_COLUMNS) + " |", "|---" * len(_COLUMNS) + "|"]
    for key, entry in part["systems"].items():
        lines.append("| " + " | ".join(_row(key, entry, baseline)) + " |")
    return "\n".join(lines)


def _baseline(part: Part, name: str) -> Entry | None:
    figures: Entry | None = part["systems"].get(name, {}).get("figures")
    return figures


def _depths(part: Part) -> Sequence[int]:
    for entry in part["systems"].values():
        if entry["figures"]:
            return [step["depth_tokens"] for step in entry["figures"]["decode"]]
    return []


def _row(key: str, entry: Entry, baseline: Entry | None) -> list[str]:
    build, figures = entry["build"], entry["figures"]
    built = ["–", "–"]
    if build["steps"]:
        built = [f"{build['wall_s']:.0f}", f"{build['peak_bytes'] / 1e9:.1f}"]
    built = [_megabytes(entry["file_bytes"]), *built]
    name = key + (" (busy machine)" if entry["busy"] else "")
    if figures is None:
        return [name, *["–"] * 7, *built]
    last = figures["decode"][-1]["model"]
    kinds = (last["anonymous_bytes"]["median"], last["file_bytes"]["median"])
    return [
        name,
        _prefill(figures, baseline),
        ", ".join(_decodes(figures, baseline)),
        _memory(figures, baseline),
        " + ".join(map(_megabytes, kinds)),
        _megabytes(figures["interpreter"]["resident_bytes"]["median"]),
        f"{figures['load_s']['median']:.1f}",
        f"{figures['first_token_s']['median']:.1f}",
        *built,
    ]


def _prefill(figures: Entry, baseline: Entry | None) -> str:
    found = figures["prefill_tokens_per_s"]
    if found is None:
        return "–"
    other = baseline and baseline["prefill_tokens_per_s"]
    return _spread(found) + _times(found, other)


def _decodes(figures: Entry, baseline: Entry | None) -> list[str]:
    others = [step["tokens_per_s"] for step in baseline["decode"]] if baseline else []
    steps = [step["tokens_per_s"] for step in figures["decode"]]
    others += [None] * (len(steps) - len(others))
    return [_spread(own) + _times(own, other) for own, other in zip(steps, others, strict=False)]


def _memory(figures: Entry, baseline: Entry | None) -> str:
    own = figures["decode"][-1]["model"]["resident_bytes"]
    other = baseline["decode"][-1]["model"]["resident_bytes"] if baseline else None
    return _megabytes(own["median"]) + _times(own, other)


def _spread(value: Entry) -> str:
    digits = 1 if value["median"] < 100 else 0
    shown = [f"{value[name]:.{digits}f}" for name in ("median", "least", "most")]
    return f"{shown[0]} ({shown[1]}–{shown[2]})"


def _times(value: Entry, baseline: Entry | None) -> str:
    if not baseline or baseline is value:
        return ""
    return f" {ratio(value['median'], baseline['median']):.2f}×"


def _megabytes(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:,.0f}"
