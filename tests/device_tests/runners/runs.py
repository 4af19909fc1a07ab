"""Runs of a compiled runner for several test modules."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketlm.runtime_py.golden import Golden
from tests.artifacts import Lowered


def run(
    runner: Path | Sequence[str | Path],
    bundle: Path,
    script: Sequence[str],
    folder: Path,
    *more: str,
    start_in: Path | None = None,
) -> Any:
    """Run a script; return the exit status, the events, and the path of the logits.

    Args:
        runner: the program, or what starts it.
        folder: for the script and the logits.
    """
    (folder / "script.txt").write_text("\n".join(script) + "\n")
    logits = folder / "logits.bin"
    started = [runner] if isinstance(runner, Path) else runner
    command = [*started, bundle, "--script", folder / "script.txt", "--logits", logits, *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=start_in)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    # What the runtime wrote is shown with a test that fails.
    sys.stderr.write(done.stderr[-2000:])
    return done.returncode, events, logits


def bundle_of(built: Lowered, **options: str) -> Path:
    """Write the manifest that makes an artifact a bundle, with more backend options."""
    document = json.loads(built.manifest.to_json())
    document["backends"][built.backend]["options"].update(options)
    (built.folder / "manifest.json").write_text(json.dumps(document))
    return built.folder


def feed(tokens: Sequence[int], splits: Sequence[int]) -> list[str]:
    """Return a script that feeds tokens in calls of the given lengths and keeps each row."""
    lines, start = [], 0
    for length in splits:
        lines.append("feed+ " + " ".join(map(str, tokens[start : start + length])))
        start += length
    return lines


def golden_of(bundle: Path, backend: str) -> Golden:
    """Return a bundle's golden answers."""
    return Golden.from_json((bundle / "golden" / f"{backend}.json").read_text())


def golden_script(golden: Golden) -> list[str]:
    """Return a script that feeds every case and keeps the row of each step."""
    script = []
    for case in golden.cases:
        fed = [f"feed+ {token}" for token in case.fed_ids]
        script += ["reset", f"feed+ {' '.join(map(str, case.prompt_ids))}", *fed]
    return script


def check_golden(golden: Golden, rows: NDArray[np.float32]) -> None:
    """Hold what `golden_script` gave against the answers."""
    left = iter(rows)
    for case in golden.cases:
        for step in range(len(case.continuation_ids)):
            row = next(left)
            digest = case.digest(step)
            if digest is not None:
                assert digest.error(row) <= golden.tolerance
            if case.margins[step] > 2 * golden.tolerance:
                assert int(row.argmax()) == case.continuation_ids[step]
    assert next(left, None) is None
