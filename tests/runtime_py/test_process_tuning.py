"""A library leaves its host process as it found it; commands tune theirs."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pocketlm.cli import PocketlmGroup
from pocketlm.runtime_py.process_tuning import may_tune_process, process_tuning

# In a process of its own: what is looked at is the whole process's.
WATCHED = """
import logging, os, random, signal, sys
from pocketlm.runtime_py import memory_advice

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
dup2, keep_one_heap = os.dup2, memory_advice._keep_one_heap
os.dup2 = lambda *a, **k: (changes.append("descriptor 2"), dup2(*a, **k))[1]
memory_advice._keep_one_heap = lambda libc: (changes.append("allocator"), keep_one_heap(libc))[1]
found = state()
{use}
left = state()
changes += [name for name in found if found[name] != left[name]]
import torch
print(sorted(set(changes)), torch.get_num_threads())
"""
CHAT = """
from pocketlm.runtime_py import open_model
with open_model({bundle!r}, backend={backend!r}, tune_process={tune}) as model:
    assert model.chat(max_new_tokens=4).stream("Which module has Counter?").text
"""


def used(bundle: Path, backend: str, tune: bool) -> list[str]:
    """Return what a chat changed, and torch's threads in a process that began afresh."""
    use = CHAT.format(bundle=str(bundle), backend=backend, tune=tune)
    code = WATCHED.format(use=use)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].rsplit(" ", 1)


@pytest.mark.parametrize("backend", ["onnx", "executorch"])
def test_a_chat_leaves_the_host_process_as_it_was(pico_bundle: Path, backend: str) -> None:
    fresh = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.get_num_threads())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert used(pico_bundle, backend, tune=False) == ["[]", fresh.stdout.strip()]


def test_a_host_that_asks_for_it_is_tuned(pico_bundle: Path) -> None:
    changes, threads = used(pico_bundle, "executorch", tune=True)
    assert changes == "['allocator', 'descriptor 2']"
    assert threads == "1"


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
