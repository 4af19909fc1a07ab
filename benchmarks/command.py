"""The suite's command line: plan, run, save, print."""

import argparse
import json
import signal
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from benchmarks import machine, plot, systems
from benchmarks.artifacts import Reuse
from benchmarks.documents import RESULTS, save, today, versions
from benchmarks.processes import ROOT, Guard, SuiteError, say
from benchmarks.rounds import DECODE_STEPS, PARTS, PREFILL_TOKENS, Plan, measure_part
from benchmarks.systems.system import Target
from benchmarks.table import render, write_between_markers

_DESCRIPTION = """\
Measures pocketlm's bundles and the systems that do the same job, on one random-weight checkpoint.

  python benchmarks/suite.py
  python benchmarks/suite.py gemma-3-1b --systems executorch-g32,llama-q4_0 --rounds 3
  python benchmarks/suite.py gemma-3-1b --parts depth --systems onnx-g32-kv8,llama-q4_0 --rounds 1
  python benchmarks/suite.py gemma-3-4b --parts build --systems executorch-g32,onnx-g32

`make bench` makes the peers' environments first.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the suite.

    Raises:
        SystemExit: 2 with a message, when something stands in the way.
    """
    parsed = _parser().parse_args(arguments)
    # As Ctrl-C does: what is being measured must not go on alone.
    signal.signal(signal.SIGTERM, _stop)
    try:
        _run_suite(parsed)
    except SuiteError as error:
        say(f"benchmark: {error}")
        raise SystemExit(2) from error


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _parser() -> argparse.ArgumentParser:
    known = systems.define(Target("SHAPE", Path(), 0))
    parser = argparse.ArgumentParser(
        prog="python benchmarks/suite.py",
        description=_DESCRIPTION,
        epilog="systems:\n" + "\n".join(f"  {s.name:24}{s.title}" for s in known.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("shape", nargs="?", default="gemma-3-1b", help="as `pocketlm list shapes` names it")
    add(
        "--systems",
        type=_names_of(known),
        default=(),
        metavar="NAMES",
        help="comma-separated, or all; default: "
        + "; ".join(f"{part.name}: {', '.join(part.systems)}" for part in PARTS.values()),
    )
    add(
        "--parts",
        type=_names_of(("build", *PARTS)),
        default=("build", "speed"),
        metavar="NAMES",
        help="comma-separated, or all; build: only build what is missing; speed: prefill of 512, "
        "decode at 1,024, memory, at context 2,048; depth: decode and memory at 1k, 8k and 30k, at "
        "context 32,768, which takes minutes a system; default: build,speed",
    )
    add("--rounds", type=int, default=3, help="default: 3")
    add("--threads", type=int, default=machine.physical_cores(), help="default: physical cores")
    add("--baseline", default="llama-q4_0", help="system that ratios are against")
    add("--readme", action="store_true", help="put the table into README.md")
    add("--rebuild", action="store_true", help="build even what is there")
    add("--stale", action="store_true", help="keep artifacts that older sources have built")
    add("--force", action="store_true", help="measure on a busy machine too; the result says so")
    add(
        "--idle-timeout",
        type=float,
        default=60,
        metavar="S",
        help="seconds to wait for an idle machine",
    )
    add("--lock-file", type=Path, help="hold its flock while measuring; other jobs share it")
    add("--work", type=Path, default=Path("build/bench"), help="folder of artifacts")
    add("--out", type=Path, help="JSON; default: benchmarks/results/DATE-SHAPE-PARTS.json")
    return parser


def _names_of(known: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    names = tuple(known)

    def read(text: str) -> tuple[str, ...]:
        asked = names if text == "all" else tuple(text.split(","))
        for name in asked:
            if name not in names:
                raise argparse.ArgumentTypeError(f"{name}: unknown; known: {', '.join(names)}")
        return asked

    return read


def _run_suite(parsed: argparse.Namespace) -> None:
    plan = Plan(
        shape=parsed.shape,
        work=(ROOT / parsed.work).resolve(),
        names=parsed.systems,
        rounds=parsed.rounds,
        threads=parsed.threads,
        measured=parsed.parts != ("build",),
        guard=Guard(parsed.force, parsed.idle_timeout, parsed.lock_file),
        reuse=Reuse(parsed.rebuild, parsed.stale),
    )
    document = _header(parsed)
    names = [name for name in PARTS if name in parsed.parts] or ["speed"]
    for name in names:
        document["parts"][name] = measure_part(PARTS[name], plan)
    table = render(document)
    say(table)
    _save(document, parsed)
    if parsed.readme:
        write_between_markers(ROOT / "README.md", table)
    print(json.dumps(document))


def _header(parsed: argparse.Namespace) -> dict[str, Any]:
    return {
        "date": today(),
        "shape": parsed.shape,
        "threads": parsed.threads,
        "baseline": parsed.baseline,
        "machine": machine.describe(),
        "versions": versions("pocketlm", "torch", "executorch", "onnxruntime", "onnxruntime-genai"),
        "prefill_tokens": PREFILL_TOKENS,
        "decode_steps": DECODE_STEPS,
        "parts": {},
    }


def _save(document: dict[str, Any], parsed: argparse.Namespace) -> None:
    parts = "+".join(document["parts"])
    path = parsed.out or RESULTS / f"{document['date']}-{parsed.shape}-{parts}.json"
    save(document, path)
    if "depth" in document["parts"]:
        if plot.can_draw():
            path.with_suffix(".svg").write_text(plot.draw(document))
        else:
            say(plot.MISSING)
