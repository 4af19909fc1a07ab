"""One of our modules in a process of its own: what it holds in memory goes with it."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pocketlm.runtime_py.errors import RunError

# Processor seconds; the clock may take ten times as long on a busy machine.
_LONGEST_S, _BUSY = 300, 10
_PACKAGE_ROOT = Path(__file__).parents[3]


def run_module(module: str, arguments: Sequence[object], what: str) -> None:
    """Run `python -m module`; its output is kept from the terminal.

    Args:
        module: one that begins with `limit_processor_time`.
        what: the work in words, for the message.

    Raises:
        RunError: it failed, crashed or took too long; says its last line.
    """
    path = os.pathsep.join(filter(None, (str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH"))))
    too_long = f"{what}: no answer in {_LONGEST_S} s of processor time"
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_BUSY * _LONGEST_S,
        )
    except subprocess.TimeoutExpired as error:
        raise RunError(too_long) from error
    if done.returncode == -signal.SIGXCPU:
        raise RunError(too_long)
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise RunError(f"{what}: {last[-1]} (exit code {done.returncode})")


def limit_processor_time(longest_s: int = _LONGEST_S) -> None:
    """End this process when it has taken too long."""
    with suppress(ImportError, ValueError, OSError):  # not POSIX; the parent's clock remains
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (longest_s, longest_s + 1))
