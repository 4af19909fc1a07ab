"""Question: does a checkpoint of a published size build on this machine, and in what memory?

Method: write a random-weight checkpoint of the shape, build it once per backend in a process of its
own, then load the bundle in a fresh process, prefill 512 tokens after a warm-up and decode 32.
Build time is one run; prefill is the median of three, decode the median of its steps.
Units: seconds, bytes, tokens per second; peak memory is the process's highest resident size.
Command: python benchmarks/full_size_build.py gemma-3-1b --backend onnx --backend executorch
The last line of stdout is the JSON document that is saved below benchmarks/results/.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PREFILL_TOKENS = 512
DECODE_TOKENS = 32


def run(command: list[str]) -> dict[str, float]:
    """Run a command to its end; return its wall time and peak resident bytes."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(command)}: exit status {os.waitstatus_to_exitcode(status)}")
    return {"wall_s": round(time.monotonic() - start, 1), "peak_rss_bytes": usage.ru_maxrss * 1024}


def tree_bytes(folder: Path) -> dict[str, int]:
    """Return the bytes of every file of a bundle."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def measure(bundle: str, backend: str) -> None:
    """Load a bundle, prefill and decode; print one JSON line. Runs in a process of its own."""
    from runtime_py import open_session

    start = time.monotonic()
    session = open_session(bundle, backend=backend)
    load_s = time.monotonic() - start
    tokens = [7 + (11 * i) % 900 for i in range(PREFILL_TOKENS)]
    session.prefill(tokens[:64])  # warm-up
    prefill_s = []
    for _ in range(3):
        session.reset()
        start = time.monotonic()
        session.prefill(tokens)
        prefill_s.append(time.monotonic() - start)
    decode_s = []
    for i in range(DECODE_TOKENS):
        start = time.monotonic()
        session.decode(7 + i)
        decode_s.append(time.monotonic() - start)
    print(
        json.dumps(
            {
                "load_s": round(load_s, 2),
                "prefill_tokens_per_s": round(PREFILL_TOKENS / statistics.median(prefill_s), 1),
                "decode_tokens_per_s": round(1 / statistics.median(decode_s), 2),
                "decode_depth_tokens": PREFILL_TOKENS,
                "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


def bench(arguments: argparse.Namespace) -> dict[str, object]:
    """Build and measure each backend; return the document."""
    work = Path(arguments.work)
    work.mkdir(parents=True, exist_ok=True)
    checkpoint = work / arguments.shape
    pocketlm = [sys.executable, "-m", "pocketlm"]
    document: dict[str, object] = {
        "shape": arguments.shape,
        "recipe": arguments.recipe,
        "context_length": arguments.context,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": {"cpu_count": os.cpu_count(), "architecture": platform.machine()},
        "versions": {
            name: version(name) for name in ("pocketlm", "torch", "executorch", "onnxruntime")
        },
    }
    if not checkpoint.exists():
        document["checkpoint"] = run(
            [*pocketlm, "checkpoint", arguments.shape, "--random", "--out", str(checkpoint)]
        )
    backends: dict[str, object] = {}
    for backend in arguments.backend:
        bundle = work / f"{arguments.shape}-{backend}"
        shutil.rmtree(bundle, ignore_errors=True)
        build = [*pocketlm, "build", str(checkpoint), "--out", str(bundle), "--backend", backend]
        build += ["--recipe", arguments.recipe, "--context", str(arguments.context)]
        built = run([*build, "--golden-tokens", str(arguments.golden_tokens)])
        measured = subprocess.run(
            [sys.executable, __file__, "--measure", str(bundle), backend],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        files = tree_bytes(bundle)
        backends[backend] = {
            "build": built,
            "file_bytes": files,
            "run": json.loads(measured.stdout.splitlines()[-1]),
        }
        if not arguments.keep:
            shutil.rmtree(bundle)
    document["backends"] = backends
    return document


def main() -> None:
    """Read the command line, run, save and print."""
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2], sys.argv[3])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", nargs="?", default="gemma-3-1b")
    parser.add_argument("--backend", action="append", help="repeat for several")
    parser.add_argument("--recipe", default="int4-g32")
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--golden-tokens", type=int, default=4)
    parser.add_argument("--work", default="build/bench", help="where checkpoint and bundles go")
    parser.add_argument("--keep", action="store_true", help="keep the bundles")
    arguments = parser.parse_args()
    arguments.backend = arguments.backend or ["onnx", "executorch"]
    document = bench(arguments)
    RESULTS.mkdir(exist_ok=True)
    backends = "+".join(arguments.backend)
    name = f"{document['date']}-build-{arguments.shape}-{arguments.recipe}-{backends}.json"
    (RESULTS / name).write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
