"""Question: does each stage of a build hold what `--dry-run` predicts?

Method: for each shape, cut to a few layers so that it is quick, one build in a process of its own,
and its prediction in another; peaks are the process's highest resident size within the stage. The
constants of edge_build/memory_prediction.py are fitted to this; fit them again when a stage
changes: vary layers, shape, recipe and context one at a time and see which term moves.
Units: bytes; the ratio is predicted / measured. Memory, not time: other work does not disturb it.
Command: python -m benchmarks.build_memory pico gemma-3-270m:4 gemma-3-1b:4 --backend onnx
The last line of stdout is the JSON document that is saved below benchmarks/results/.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.documents import RESULTS, save, today, versions

ROOT = Path(__file__).parents[1]
SHAPES = ("pico", "gemma-3-270m:4", "gemma-3-270m", "qwen3-0.6b:4", "gemma-3-1b:4")


def pocketlm(*arguments: object) -> dict[str, Any]:
    """Run a command to its end; return the JSON that it prints."""
    command = [sys.executable, "-m", "pocketlm", *map(str, arguments), "--json"]
    finished = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    document: dict[str, Any] = json.loads(finished.stdout)
    return document


def checkpoint_of(shape: str, work: Path) -> Path:
    """Return a checkpoint of "SHAPE" or "SHAPE:LAYERS" with random weights, written once."""
    if shape == "pico":
        return ROOT / "models" / "pico"
    name, _, layers = shape.partition(":")
    folder = work / f"{name}-{layers or 'all'}-layers"
    if not folder.exists():
        chosen = ("--layers", layers) if layers else ()
        pocketlm("checkpoint", name, "--random", "--out", folder, *chosen)
    return folder


def compare(shape: str, backend: str, options: Sequence[str], work: Path) -> dict[str, Any]:
    """Build once; return predicted and measured bytes of each stage."""
    out = work / "build-memory"
    shutil.rmtree(out, ignore_errors=True)
    backends = [part for name in backend.split("+") for part in ("--backend", name)]
    arguments = ("build", checkpoint_of(shape, work), "--out", out, *backends, *options)
    predicted = pocketlm(*arguments, "--dry-run")["memory"]
    built = pocketlm(*arguments, "--fresh")
    shutil.rmtree(out)
    measured = {stage["name"]: stage for stage in built["stages"]}
    stages = [
        {
            "name": stage["name"],
            "predicted_bytes": stage["peak_bytes"],
            "measured_bytes": measured[stage["name"]]["peak_bytes"],
            "wall_s": measured[stage["name"]]["wall_s"],
            "terms": stage["terms"],
        }
        for stage in predicted["stages"]
    ]
    for stage in stages:
        ratio = stage["predicted_bytes"] / stage["measured_bytes"]
        print(
            f"{shape:18} {backend:16} {stage['name']:12} "
            f"measured {stage['measured_bytes'] / 1e6:7,.0f} MB  "
            f"predicted {stage['predicted_bytes'] / 1e6:7,.0f} MB  ratio {ratio:.2f}",
            flush=True,
        )
    return {"shape": shape, "backend": backend, "options": list(options), "stages": stages}


def main() -> None:
    """Read the command line, run, save and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="*", default=SHAPES, help="SHAPE or SHAPE:LAYERS, or pico")
    parser.add_argument("--backend", action="append", help="repeat; a+b builds both at once")
    parser.add_argument("--recipe", default="int4-g32")
    parser.add_argument("--context", help="positions; default: the build's")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    options = ["--recipe", arguments.recipe]
    options += ["--context", arguments.context] if arguments.context else []
    builds = [
        compare(shape, backend, options, arguments.work)
        for shape in arguments.shapes
        for backend in arguments.backend or ("onnx", "executorch")
    ]
    document = {
        "date": today(),
        "machine": {"cpu_count": os.cpu_count(), "architecture": platform.machine()},
        "versions": versions("pocketlm", "torch", "executorch", "onnx"),
        "builds": builds,
    }
    save(document, RESULTS / f"{document['date']}-build-memory-{arguments.recipe}.json")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
