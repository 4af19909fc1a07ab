"""Question: is a .pte whose tied table stands in it once as fast, and as small in memory, as twice?

Method: a bundle's .pte is written again with the table of the lookup and that of the head apart, as
ExecuTorch's own exporter lays it out. Both run through the engine in processes of their own, in
turn, on the same tokens.
Units: tokens a second, medians of the rounds with least and most; bytes of the file, and bytes
resident after decoding without the interpreter.
Command: python -m benchmarks.shared_table BUNDLE...
The last line of stdout is the JSON document that is saved below benchmarks/results/.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.documents import RESULTS, save, today, versions
from benchmarks.figures import Figures, ratio, summarize
from benchmarks.processes import ROOT, Guard, run
from benchmarks.workers.measuring import Job
from pocketlm.edge_build.backends.executorch.shared_constants import constants_of, lay_out
from pocketlm.runtime_py.bundle import read_bundle
from pocketlm.runtime_py.engines.executorch.program_file import open_program, write_program

_BACKEND = "executorch"
_DECODE_STEPS = 64


def write_apart(bundle: Path, out: Path) -> Path:
    """Copy a bundle; its .pte has what two of its segments share twice. Return the copy."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(bundle, out, copy_function=os.link)
    name = read_bundle(bundle).backend(_BACKEND).model
    (out / name).unlink()
    with open_program(bundle / name) as source, (out / name).open("wb") as file:
        others = [source.copy(number) for number in range(1, len(source.program.segments))]
        write_program(*lay_out(source.program, constants_of(source), others, {}), file)
    return out


def measure(bundle: Path, rounds: int, threads: int, work: Path, guard: Guard) -> dict[str, Any]:
    """Measure a bundle and its copy in turn."""
    folders = {"once": bundle, "twice": write_apart(bundle, work / f"{bundle.name}-table-twice")}
    manifest = read_bundle(bundle).manifest
    prompt = min(512, manifest.context_length // 4)
    raws: dict[str, list[Mapping[str, Any]]] = {name: [] for name in folders}
    for number in range(rounds):
        # Each is first as often as the other: the second one may find a warmer machine.
        for name in list(folders)[:: -1 if number % 2 else 1]:
            job = Job(
                artifact=str(folders[name]),
                threads=threads,
                context_length=manifest.context_length,
                vocab_size=manifest.vocab_size,
                prefill_tokens=prompt,
                prefill_repeats=3,
                depths=(prompt,),
                decode_steps=_DECODE_STEPS,
                settings={"backend": _BACKEND},
            )
            command = [sys.executable, "-m", "benchmarks.workers.pocketlm_bundle", job.to_json()]
            raws[name].append(run(command, guard).figures())
    figures = {name: summarize(found, prompt) for name, found in raws.items()}
    name = manifest.backends[_BACKEND].model
    sizes = {kind: (folder / name).stat().st_size for kind, folder in folders.items()}
    ratios = _ratios(figures["once"], figures["twice"])
    print(f"{bundle.name}: {sizes}, once to twice {ratios}", flush=True)
    return {
        "bundle": bundle.name,
        "recipe": manifest.recipe,
        "file_bytes": sizes,
        "ratios": ratios,
        "figures": {name: asdict(found) for name, found in figures.items()},
    }


def _ratios(once: Figures, twice: Figures) -> dict[str, float]:
    """Return once to twice: above 1 is faster, or more memory."""
    prefills = once.prefill_tokens_per_s, twice.prefill_tokens_per_s
    assert prefills[0] is not None and prefills[1] is not None, "prompts were repeated"
    decodes = once.decode[0], twice.decode[0]
    return {
        "prefill": ratio(prefills[0].median, prefills[1].median),
        "decode": ratio(decodes[0].tokens_per_s.median, decodes[1].tokens_per_s.median),
        "load_s": ratio(once.load_s.median, twice.load_s.median),
        "resident_bytes": ratio(
            decodes[0].model.resident_bytes.median, decodes[1].model.resident_bytes.median
        ),
    }


def main() -> None:
    """Read the command line, run, save and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=machine.physical_cores())
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    parser.add_argument("--no-save", action="store_true", help="print only")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    guard = Guard(given.force)
    document = {
        "date": today(),
        "threads": given.threads,
        "machine": machine.describe(),
        "versions": versions("pocketlm", "executorch"),
        "bundles": [
            measure(bundle, given.rounds, given.threads, given.work, guard)
            for bundle in given.bundles
        ],
    }
    if not given.no_save:
        save(document, RESULTS / f"{document['date']}-shared-table.json")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
