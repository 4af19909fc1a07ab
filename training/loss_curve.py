"""The losses of a training as a picture, drawn with matplotlib (extra `training`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketlm.training.state import Progress

CURVE_NAME = "loss.svg"
# Text stays text, and the same losses give the same file.
_SVG: Any = {"svg.fonttype": "none", "svg.hashsalt": "pocketlm"}
_NO_METADATA = {"Date": None, "Creator": None}
# Okabe and Ito's palette: told apart by readers who are colour-blind too.
_COLOURS = ("#d55e00", "#009e73", "#cc79a7", "#e69f00")
_SMOOTHED_STEPS = 10


def draw_loss_curve(progress: Progress, ways: Sequence[str], path: Path) -> None:
    """Write an SVG: the loss of each step and its running mean, and the held-out text's."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SVG):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes: Any = figure.subplots()
        losses = np.array(progress.losses)
        steps = np.arange(1, len(losses) + 1)
        axes.plot(steps, losses, color="#bbb", linewidth=0.8, label="each step")
        axes.plot(steps, _running_mean(losses), color="#0072b2", label="mean of 10 steps")
        for place, way in enumerate(ways):
            points = [(row[0], row[1 + place]) for row in progress.held_out]
            colour = _COLOURS[place % len(_COLOURS)]
            axes.plot(*zip(*points, strict=True), "o-", color=colour, label=f"held out, {way}")
        axes.set(xlabel="steps", xlim=(0, None), ylim=(0, None))
        axes.set_title("KL divergence from the teacher, nats", loc="left")
        axes.grid(axis="y", color="#ddd")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        figure.savefig(path, format="svg", metadata=_NO_METADATA)


def _running_mean(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each value and the nine before it, or as many as there are."""
    sums = np.cumsum(np.concatenate(([0.0], losses)))
    stop = np.arange(1, len(losses) + 1)
    start = np.maximum(0, stop - _SMOOTHED_STEPS)
    mean: NDArray[np.float64] = (sums[stop] - sums[start]) / (stop - start)
    return mean
