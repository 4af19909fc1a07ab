"""What a process holds, in a container or not."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pocketlm.edge_build import resident_memory
from pocketlm.edge_build.resident_memory import PeakMemory, available_bytes, resident_bytes

MB = 1_000_000


def in_a_process(code: str) -> list[int]:
    """Run code that prints JSON in a process of its own, whose peak nothing else moves."""
    shown = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    numbers: list[int] = json.loads(shown.stdout)
    return numbers


def test_the_peak_of_a_block_is_what_it_held_at_most() -> None:
    before, peak = in_a_process(
        "import json\n"
        "from pocketlm.edge_build.resident_memory import PeakMemory, resident_bytes\n"
        "before = resident_bytes()\n"
        "with PeakMemory() as memory:\n"
        "    block = bytearray(b'x') * 100_000_000\n"
        "    del block\n"
        "print(json.dumps([before, memory.peak_bytes]))\n"
    )
    # The system counts pages in batches; a few megabytes more are the sampling thread's.
    assert 99 * MB < peak - before < 110 * MB


def test_a_block_below_an_earlier_peak_is_not_charged_with_it() -> None:
    # The block holds until it was sampled, so nothing depends on the clock.
    peak, held = in_a_process(
        "import json, threading\n"
        "from pocketlm.edge_build import resident_memory as rm\n"
        "early = bytearray(b'x') * 300_000_000\n"
        "del early\n"
        "measure, sampled, holding = rm.resident_bytes, threading.Event(), threading.Event()\n"
        "def resident_bytes():\n"
        "    if holding.is_set(): sampled.set()\n"
        "    return measure()\n"
        "rm.resident_bytes = resident_bytes\n"
        "with rm.PeakMemory() as memory:\n"
        "    late = bytearray(b'x') * 50_000_000\n"
        "    holding.set()\n"
        "    assert sampled.wait(60)\n"
        "    sampled.clear()\n"
        "    assert sampled.wait(60)\n"
        "    held = measure()\n"
        "    del late\n"
        "print(json.dumps([memory.peak_bytes, held]))\n"
    )
    assert abs(peak - held) < 10 * MB


def test_the_peak_of_a_failed_block_is_known_too() -> None:
    memory = PeakMemory()
    with pytest.raises(ValueError, match="mine"), memory:
        raise ValueError("mine")
    assert memory.peak_bytes >= resident_bytes() // 2


def group(folder: Path, limit: str, current: int, cache: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{current}\n")
    (folder / "memory.stat").write_text(f"anon 7\ninactive_file {cache}\nactive_file 0\n")
    return folder


def test_a_containers_limit_counts_without_the_pages_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident_memory, "_own_cgroup", lambda: "")
    groups = group(tmp_path / "groups", "5000", current=3000, cache=1000)
    assert available_bytes(groups) == 3000


def test_a_limit_on_a_group_above_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident_memory, "_own_cgroup", lambda: "user/build")
    groups = tmp_path / "groups"
    group(groups / "user" / "build", "max", current=0, cache=0)
    (groups / "user" / "memory.max").write_text("4000\n")
    (groups / "user" / "memory.current").write_text("1000\n")
    (groups / "user" / "memory.stat").write_text("inactive_file 0\nactive_file 500\n")
    assert available_bytes(groups) == 3500


def test_without_limits_the_machine_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Memory:
        available = 12345

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    assert available_bytes(tmp_path / "no-groups") == 12345
