"""Question: how long does the golden stage of a build take, and what does it spend its work on?

Method: for each shape, with random weights, the quantize stage and then the golden stage alone, in
one process, for artifacts of both backends as they round (nothing is lowered: golden answers come
from the eager model). Beside the times, two counts that no other work on the machine changes:
multiply-adds of the linear layers, and weights that were unpacked to float32 for them. The floor
is one unpacking of every weight, and one multiply-add for each weight, token and way to round.
The goal is 120 s or 1.5 times the quantize stage, whichever is more.
Units: seconds of wall time on an otherwise idle machine; counts in 1e9.
Command: python -m benchmarks.golden_stage qwen3-0.6b:2 gemma-3-270m gemma-3-1b gemma-3-4b
The last line of stdout is the JSON document that is saved below benchmarks/results/.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from benchmarks.build_memory import ROOT, checkpoint_of
from benchmarks.documents import RESULTS, save, today, versions
from pocketlm.edge_build.backend import Artifact
from pocketlm.edge_build.golden import record_golden
from pocketlm.edge_build.preparation import Preparation, prepare
from pocketlm.edge_build.progress import silent
from pocketlm.edge_build.quantization.apply import quantize_weights
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.edge_build.reference import ReferenceLinear
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.runtime_py.manifest import ActivationQuantization

# Just below and above what used to be recorded token by token, and the published sizes.
SHAPES = ("pico", "qwen3-0.6b:2", "gemma-3-270m", "qwen3-0.6b", "gemma-3-1b")
ROUNDINGS: dict[str, ActivationQuantization] = {
    "executorch": "per_token_asymmetric",
    "onnx": "per_block_symmetric",
}


@dataclass
class Counts:
    """What the linear layers of eager models did."""

    multiply_adds: int = 0
    unpacked: int = 0
    calls: int = 0


@contextmanager
def counted() -> Iterator[Counts]:
    """Count within the block."""
    counts = Counts()
    forward, rows = ReferenceLinear.forward, WeightStore.rows

    def counting_forward(self: ReferenceLinear, x: Tensor) -> Tensor:
        counts.calls += 1
        counts.multiply_adds += prod(x.shape[:-1]) * prod(self.weights.shape(self.name))
        return forward(self, x)

    def counting_rows(self: WeightStore, name: str, start: int, stop: int) -> NDArray[Any]:
        found = rows(self, name, start, stop)
        counts.unpacked += found.size
        return found

    ReferenceLinear.forward = counting_forward  # type: ignore[method-assign]
    WeightStore.rows = counting_rows  # type: ignore[method-assign]
    try:
        yield counts
    finally:
        ReferenceLinear.forward = forward  # type: ignore[method-assign]
        WeightStore.rows = rows  # type: ignore[method-assign]


def artifacts_of(prepared: Preparation) -> dict[str, Artifact]:
    """Return what the golden stage reads of artifacts, without lowering any."""
    return {
        name: Artifact(
            model=f"{name}/model",
            files=(),
            activation_quantization=rounding,
            runtime_floor={},
            caches=prepared.caches.layers,
            rewind_tokens=None,
            logits_size=prepared.text.tokenizer_size,
            components=(),
            options={},
        )
        for name, rounding in ROUNDINGS.items()
    }


def measure(shape: str, recipe: str, work: Path) -> dict[str, Any]:
    """Work both stages once."""
    spec = BuildSpec(checkpoint=checkpoint_of(shape, work), out=work / "bundle", recipe=recipe)
    with tempfile.TemporaryDirectory(dir=work, prefix="golden-stage-") as folder:
        return {"shape": shape, **stages_of(prepare(spec), shape, Path(folder))}


def stages_of(prepared: Preparation, shape: str, folder: Path) -> dict[str, Any]:
    """Quantize and record in a folder; print and return times and counts."""
    (folder / "store").mkdir()
    begun = time.perf_counter()
    quantized = quantize_weights(prepared.checkpoint, prepared.rules, folder / "store", silent)
    quantize_s = time.perf_counter() - begun
    with counted() as counts:
        begun = time.perf_counter()
        record_golden(prepared, quantized.weights, None, artifacts_of(prepared), folder, silent)
        golden_s = time.perf_counter() - begun
    allowed_s = max(120.0, 1.5 * quantize_s)
    print(
        f"{shape:16} {prepared.parameters / 1e6:8,.0f} M weights  quantize {quantize_s:6.1f} s  "
        f"golden {golden_s:6.1f} s of {allowed_s:.0f}  "
        f"{counts.multiply_adds / 1e9:8,.0f}e9 multiply-adds  "
        f"{counts.unpacked / 1e9:6,.1f}e9 unpacked in {counts.calls} calls",
        flush=True,
    )
    return {
        "parameters": prepared.parameters,
        "quantize_s": round(quantize_s, 2),
        "golden_s": round(golden_s, 2),
        "multiply_adds": counts.multiply_adds,
        "unpacked_weights": counts.unpacked,
        "linear_calls": counts.calls,
    }


def main() -> None:
    """Read the command line, run, save and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="*", default=SHAPES, help="SHAPE or SHAPE:LAYERS, or pico")
    parser.add_argument("--recipe", default="int4-g32")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--no-save", action="store_true", help="print only")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    stages = [measure(shape, arguments.recipe, arguments.work) for shape in arguments.shapes]
    document = {
        "date": today(),
        "machine": {"cpu_count": os.cpu_count(), "architecture": platform.machine()},
        "versions": versions("pocketlm", "torch"),
        "recipe": arguments.recipe,
        "stages": stages,
    }
    if not arguments.no_save:
        save(document, RESULTS / f"{document['date']}-golden-stage-{arguments.recipe}.json")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
