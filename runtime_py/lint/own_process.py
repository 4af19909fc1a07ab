"""One of our modules in a process of its own: what it holds in memory goes with it."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime_py.errors import RunError

_PACKAGE_ROOT = Path(__file__).parents[2]


def run_module(module: str, arguments: Sequence[object], what: str, longest_s: int = 300) -> None:
    """Run `python -m module`; its output is kept from the terminal.

    Args:
        what: the work in words, for the message.

    Raises:
        RunError: it failed, crashed or took too long; says its last line.
    """
    path = os.pathsep.join(filter(None, (str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=longest_s,
        )
    except subprocess.TimeoutExpired as error:
        raise RunError(f"{what}: no answer in {longest_s} s; run it again") from error
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise RunError(f"{what}: {last[-1]} (exit code {done.returncode})")
