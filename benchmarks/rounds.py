"""Measures systems round by round, A B C A B C, each time in a fresh process."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import systems
from benchmarks.artifacts import BuildRecord, Reuse, build
from benchmarks.figures import Spread, summarize
from benchmarks.machine import Quietness
from benchmarks.processes import Guard, SuiteError, run, say
from benchmarks.systems.system import System, Target
from benchmarks.workers.measuring import Job
from pocketlm.models.checkpoint import open_checkpoint

PREFILL_TOKENS = 512
DECODE_STEPS = 64
_READ_BYTES = 16 << 20


@dataclass(frozen=True)
class Part:
    """One kind of measurement.

    Attributes:
        context_length: of the caches; a deeper one than needed would cost every system memory.
        prefill_repeats: timed prompts after the cold one.
        depths: tokens in the caches when decode is timed.
        systems: measured when none are named.
    """

    name: str
    context_length: int
    prefill_repeats: int
    depths: tuple[int, ...]
    systems: tuple[str, ...]


PARTS = {
    "speed": Part(
        "speed",
        2048,
        3,
        (1024,),
        (
            "executorch-g32", "executorch-g128", "executorch-channel",
            "onnx-g32", "onnx-g128", "genai-g32",
            "llama-q4_0", "llama-q4_0-no-amx",
            "litert-g32", "litert-channel",
            "transformers-bf16",
        ),
    ),
    "depth": Part(
        "depth",
        32768,
        0,
        (1024, 8192, 30000),
        (
            "executorch-g32", "executorch-g32-kv8", "onnx-g32", "onnx-g32-kv8",
            "llama-q4_0", "llama-q4_0-no-amx",
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What to measure and how.

    Attributes:
        names: of systems, in the order of a round; empty for each part's own.
        measured: whether to measure, or only to build.
    """

    shape: str
    work: Path
    names: tuple[str, ...]
    rounds: int
    threads: int
    measured: bool
    guard: Guard
    reuse: Reuse

    def target(self, part: Part) -> Target:
        return Target(self.shape, self.work, part.context_length)


def measure_part(part: Part, plan: Plan) -> dict[str, Any]:
    """Build what a part needs, measure it, and return its JSON document.

    Raises:
        SuiteError: a build or a measurement fails, or the machine is busy.
    """
    target = plan.target(part)
    _write_checkpoint(target)
    known = systems.define(target)
    asked = _with_environments([known[name] for name in plan.names or part.systems], plan)
    records = {
        system.name: build(system, target.checkpoint, plan.guard, plan.reuse) for system in asked
    }
    raws: dict[str, list[Mapping[str, Any]]] = {system.name: [] for system in asked}
    bandwidths = []
    for turn in range(plan.rounds if plan.measured else 0):
        bandwidths.append(_read_bandwidth(plan))
        for system in asked:
            if system.most_rounds is None or turn < system.most_rounds:
                say(f"{part.name}, round {turn + 1} of {plan.rounds}: {system.name}")
                raws[system.name].append(_measure(_job(part, plan, system), system, plan.guard))
    return {
        "context_length": part.context_length,
        "read_bytes_per_s": asdict(Spread.of(bandwidths)) if bandwidths else None,
        "systems": {
            system.name: _entry(system, records[system.name], raws[system.name]) for system in asked
        },
    }


def _with_environments(asked: Sequence[System], plan: Plan) -> Sequence[System]:
    """Leave out systems that have no interpreter here, unless they were asked for by name."""
    missing = [system.name for system in asked if not system.python.exists()]
    if missing and plan.names:
        raise SuiteError(
            f"{', '.join(missing)}: no interpreter; run `make bench-peers`, or leave them out of "
            "--systems"
        )
    for name in missing:
        say(f"{name}: left out, it has no interpreter here (`make bench-peers`)")
    return [system for system in asked if system.name not in missing]


def _write_checkpoint(target: Target) -> None:
    if target.checkpoint.exists():
        return
    target.work.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pocketlm", "checkpoint", target.shape, "--random"]
    run([*command, "--out", str(target.checkpoint)], Guard(force=True))


def _job(part: Part, plan: Plan, system: System) -> Job:
    config = open_checkpoint(plan.target(part).checkpoint).config
    # Only where depths are what is asked for may a system take a shorter way to them.
    more = system.depth_settings if part.name == "depth" else {}
    return Job(
        artifact=str(system.artifact),
        threads=plan.threads,
        context_length=part.context_length,
        vocab_size=config.vocab_size,
        prefill_tokens=PREFILL_TOKENS,
        prefill_repeats=part.prefill_repeats,
        depths=part.depths,
        decode_steps=DECODE_STEPS,
        settings={**system.settings, **more},
    )


def _measure(job: Job, system: System, guard: Guard) -> Mapping[str, Any]:
    _read_through(system.artifact)
    done = run([str(system.python), "-m", system.worker, job.to_json()], guard)
    figures = done.figures()
    shown = [f"decode {1 / step['median_s']:.1f} tokens/s" for step in figures["decode"]]
    if figures["prefill_s"]:
        shown.insert(0, f"prefill {PREFILL_TOKENS / min(figures['prefill_s']):.0f}")
    say("  " + ", ".join(shown) + (" (busy machine)" if done.quietness.is_busy else ""))
    return {**figures, "quietness": asdict(done.quietness)}


def _read_bandwidth(plan: Plan) -> float:
    command = [sys.executable, "-m", "benchmarks.workers.bandwidth", str(plan.threads)]
    found = float(run(command, plan.guard).figures()["bytes_per_s"])
    say(f"memory is read at {found / 1e9:.1f} GB/s")
    return found


def _read_through(artifact: Path) -> None:
    """Bring an artifact into the page cache, so that no system pays for another's eviction."""
    files = [artifact] if artifact.is_file() else sorted(artifact.rglob("*"))
    for path in files:
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(_READ_BYTES):
                    pass


def _entry(
    system: System, record: BuildRecord, raws: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    return {
        "title": system.title,
        "contains": system.contains,
        "build": {
            "wall_s": record.wall_s,
            "peak_bytes": record.peak_bytes,
            "steps": [asdict(step) for step in record.steps],
        },
        "file_bytes": record.file_bytes,
        "busy": any(Quietness(**raw["quietness"]).is_busy for raw in raws),
        "figures": summarize(raws, PREFILL_TOKENS).to_json() if raws else None,
        "rounds": raws,
    }
