"""The sampler on this machine: samples while a process lives, and ends with it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocketlm.device_tests.runners.compilation import compile_sampler, toolchain

needs_gcc = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("gcc") is None or shutil.which("g++") is None,
    reason="needs Linux, gcc and g++",
)


@pytest.fixture(scope="module")
def sampler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_sampler(tmp_path_factory.mktemp("sampler") / "sampler", toolchain())


@pytest.fixture
def watched() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends when its input does."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        yield process


@needs_gcc
def test_samples_until_the_process_ends(sampler: Path, watched: subprocess.Popen[bytes]) -> None:
    command = [sampler, str(watched.pid), "1", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sampling:
        assert sampling.stdout is not None
        samples = [json.loads(sampling.stdout.readline()) for _ in range(4)]
        watched.communicate()
        samples += [json.loads(line) for line in sampling.stdout]
    assert sampling.returncode == 0
    clocks = [sample["clock_s"] for sample in samples]
    assert clocks == sorted(clocks)
    for sample in samples[:4]:
        assert 0 < sample["anonymous_bytes"] <= sample["resident_bytes"] <= sample["peak_bytes"]
        assert sample["machine_available_bytes"] <= sample["machine_total_bytes"]
    # What the kernel has to add up comes every third time.
    assert ["private_dirty_bytes" in sample for sample in samples[:4]] == [True, False, False, True]


@needs_gcc
@pytest.mark.parametrize("arguments", [[], ["1", "2"], ["0", "1", "1"], ["1", "x", "1"]])
def test_wrong_arguments_are_refused(sampler: Path, arguments: list[str]) -> None:
    done = subprocess.run([sampler, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "sampler" in done.stderr


@needs_gcc
def test_a_process_that_is_gone_gives_nothing(
    sampler: Path, watched: subprocess.Popen[bytes]
) -> None:
    watched.communicate()
    done = subprocess.run(
        [sampler, str(watched.pid), "1", "1"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
