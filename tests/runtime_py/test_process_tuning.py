"""A library leaves its host process as it found it; commands tune theirs."""

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pocketlm.cli import PocketlmGroup
from pocketlm.runtime_py import engines
from pocketlm.runtime_py.process_tuning import may_tune_process, process_tuning

# In a process of its own: what is looked at is the whole process's.
WATCHED = """
import logging, os, random, signal, sys

def state():
    return {{
        "environment": dict(os.environ),
        "descriptor 2": (os.fstat(2).st_dev, os.fstat(2).st_ino),
        "streams": (sys.stdout, sys.stderr),
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "root log level": (logging.root.level, logging.root.handlers, logging.root.manager.disable),
        "random": random.getstate(),
        "folder": os.getcwd(),
    }}

changes = []
found = state()
import pocketlm
from pocketlm.runtime_py import memory_advice
dup2, keep_one_heap = os.dup2, memory_advice._keep_one_heap
os.dup2 = lambda *a, **k: (changes.append("descriptor 2"), dup2(*a, **k))[1]
memory_advice._keep_one_heap = lambda libc: (changes.append("allocator"), keep_one_heap(libc))[1]
{use}
left = state()
changes += [name for name in found if found[name] != left[name]]
import torch
print(sorted(set(changes)), torch.get_num_threads())
"""
CHAT = """
options = dict(backend={backend!r}, max_new_tokens=4, tune_process={tune})
with pocketlm.open_chat({bundle!r}, **options) as chat:
    assert chat.stream("Which module has Counter?").text
"""
BUILD = """
from pathlib import Path
pocketlm.build(Path({checkpoint!r}), Path({out!r}), backends=["onnx"], context_length=64, chunk=8)
assert all(result.passed for result in pocketlm.verify({out!r}))
assert pocketlm.fit({out!r}, devices=["phone-6gb"])
"""


def used(bundle: Path, backend: str, tune: bool) -> list[str]:
    """Return what a chat changed, and torch's threads in a process that began afresh."""
    return changed_by(CHAT.format(bundle=str(bundle), backend=backend, tune=tune))


def changed_by(use: str) -> list[str]:
    code = WATCHED.format(use=use)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].rsplit(" ", 1)


@pytest.mark.parametrize("backend", ["onnx", "executorch"])
def test_a_chat_leaves_the_host_process_as_it_was(pico_bundle: Path, backend: str) -> None:
    assert used(pico_bundle, backend, tune=False) == ["[]", torch_threads()]


@cache
def torch_threads() -> str:
    """Return how many threads torch takes where nobody set anything."""
    code = "import torch; print(torch.get_num_threads())"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return shown.stdout.strip()


def test_a_build_with_its_checks_leaves_the_host_process_as_it_was(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    checkpoint, out = str(tiny_checkpoint("gemma3_text")), str(tmp_path / "bundle")
    changes, threads = changed_by(BUILD.format(checkpoint=checkpoint, out=out))
    assert changes == "[]"
    assert threads == torch_threads()


def test_a_host_that_asks_for_it_is_tuned(
    pico_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A number that the host chose itself stays.
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    changes, threads = used(pico_bundle, "executorch", tune=True)
    assert changes == "['allocator', 'descriptor 2']"
    assert threads == "1"


@pytest.mark.parametrize("backend", engines.names())
def test_a_command_shows_no_notice_of_the_runtimes_own(pico_bundle: Path, backend: str) -> None:
    command = [sys.executable, "-m", "pocketlm", "run", str(pico_bundle), "--backend", backend]
    command += ["--raw", "--temperature", "0", "-n", "2", "-p", "The list"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    assert line.startswith("prompt ")


def test_commands_tune_their_process_and_only_while_they_run() -> None:
    seen = []
    group = PocketlmGroup("x")
    group.add_command(click.Command("y", callback=lambda: seen.append(may_tune_process())))
    CliRunner().invoke(group, ["y"])
    assert seen == [True]
    assert not may_tune_process()


def test_what_was_allowed_outside_stays_allowed_inside() -> None:
    with process_tuning(), process_tuning(allowed=False):
        assert may_tune_process()
    assert not may_tune_process()
