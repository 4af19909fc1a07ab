"""Draws tokens per second and memory against depth as one SVG, with matplotlib (extra `plots`)."""

import io
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

MISSING = "no plot: needs matplotlib; pip install -e '.[plots]'"
# Text stays text, and the same result gives the same file.
_SVG = {"svg.fonttype": "none", "svg.hashsalt": "pocketlm"}
_NO_METADATA = {"Date": None, "Creator": None}
# Okabe and Ito's palette: told apart by readers who are colour-blind too.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")


def can_draw() -> bool:
    """Say whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw(document: Mapping[str, Any]) -> str:
    """Return the SVG of a result's depth part."""
    import matplotlib
    from matplotlib.figure import Figure

    entries = {
        name: entry["figures"]["decode"]
        for name, entry in document["parts"]["depth"]["systems"].items()
        if entry["figures"]
    }
    written = io.StringIO()
    with matplotlib.rc_context(_SVG):
        figure = Figure(figsize=(10, 4), layout="constrained")
        speed, memory = figure.subplots(1, 2)
        _panel(speed, "decode, tokens/s", entries, _tokens_per_s)
        _panel(memory, "model memory, MB", entries, _megabytes)
        names = speed.get_legend_handles_labels()
        figure.legend(*names, loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(written, format="svg", metadata=_NO_METADATA)
    return written.getvalue()


def _panel(
    axes: Any,
    title: str,
    entries: Mapping[str, Sequence[Any]],
    value: Callable[[Mapping[str, Any]], float],
) -> None:
    for place, (name, steps) in enumerate(entries.items()):
        depths = [step["depth_tokens"] for step in steps]
        colour = _COLOURS[place % len(_COLOURS)]
        axes.plot(depths, [value(step) for step in steps], marker="o", color=colour, label=name)
    axes.set_title(title, loc="left")
    axes.set_xlabel("tokens in the caches")
    axes.set(xlim=(0, None), ylim=(0, None))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", color="#ddd")
    axes.spines[["top", "right"]].set_visible(False)


def _tokens_per_s(step: Mapping[str, Any]) -> float:
    return float(step["tokens_per_s"]["median"])


def _megabytes(step: Mapping[str, Any]) -> float:
    return float(step["model"]["resident_bytes"]["median"]) / 1e6
