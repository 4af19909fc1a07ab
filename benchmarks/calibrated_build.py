"""Question: how long does a calibrated method take at a real shape, and how much memory?

Method: a checkpoint with random weights, built once with `--method` and a text of this project's
documentation, of which the first 16,384 tokens are read; one process, from nothing. The stages
`calibrate` and `quantize` are what the method costs. The goals at the Gemma 3 1B shape on two cores
are 30 minutes and 6 GB.
Units: seconds of wall time on an otherwise idle machine; the process's highest resident size in
bytes.
Command: python -m benchmarks.calibrated_build gemma-3-1b
The last line of stdout is the JSON document that is saved below benchmarks/results/.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.build_memory import checkpoint_of, pocketlm
from benchmarks.documents import RESULTS, save, today, versions
from benchmarks.processes import ROOT, Guard

GOAL_S, GOAL_BYTES = 1800, 6 * 10**9
_OF_THE_METHOD = ("calibrate", "quantize")


def measure(shape: str, method: str, backend: str, work: Path) -> dict[str, Any]:
    """Build once."""
    text = work / "calibration.txt"
    pages = sorted((ROOT / "docs").glob("*.md"))
    text.write_text("\n".join(page.read_text(encoding="utf-8") for page in pages), encoding="utf-8")
    out = work / "calibrated-build"
    shutil.rmtree(out, ignore_errors=True)
    options = ("--method", method, "--calibrate", text, "--backend", backend, "--fresh")
    built = pocketlm("build", checkpoint_of(shape, work), "--out", out, *options)
    shutil.rmtree(out)
    stages = {
        stage["name"]: {"wall_s": stage["wall_s"], "peak_bytes": stage["peak_bytes"]}
        for stage in built["stages"]
    }
    seconds = sum(stages[name]["wall_s"] for name in _OF_THE_METHOD)
    peak = max(stages[name]["peak_bytes"] for name in _OF_THE_METHOD)
    print(
        f"{shape} {method} for {backend}: {seconds / 60:.1f} of {GOAL_S / 60:.0f} minutes, peak "
        f"{peak / 1e9:.2f} of {GOAL_BYTES / 1e9:.0f} GB",
        flush=True,
    )
    return {
        "shape": shape,
        "method": method,
        "backend": backend,
        "calibrated_s": round(seconds, 1),
        "calibrated_peak_bytes": peak,
        "stages": stages,
    }


def main() -> None:
    """Read the command line, run, save and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="*", default=("gemma-3-1b",), help="SHAPE or SHAPE:LAYERS")
    parser.add_argument("--method", default="gptq")
    parser.add_argument("--backend", default="onnx")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    parser.add_argument("--no-save", action="store_true", help="print only")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    builds = []
    for shape in given.shapes:
        checkpoint_of(shape, given.work)
        with Guard(given.force).alone():
            builds.append(measure(shape, given.method, given.backend, given.work))
    document = {
        "date": today(),
        "machine": machine.describe(),
        "versions": versions("pocketlm", "torch"),
        "goal": {"calibrated_s": GOAL_S, "calibrated_peak_bytes": GOAL_BYTES},
        "builds": builds,
    }
    if not given.no_save:
        save(document, RESULTS / f"{document['date']}-calibrated-build-{given.method}.json")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
