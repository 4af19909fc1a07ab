"""What needs a kernel of its own: memory that runs out, and a machine that starts anew."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pocketlm.device_tests.device.target import Target
from pocketlm.device_tests.device.targets import open_target
from pocketlm.device_tests.job.lifecycle import run_job
from pocketlm.device_tests.job.values import JobSpec
from tests.device_tests.doubled_devices import adb_server
from tests.doubles.adb_server import AdbServer
from tests.doubles.qemu_system import SystemMachine, SystemPhone

pytestmark = pytest.mark.devices

# dd has one block in memory. A phase is told as a runner does, so that there is a peak to compare.
FILL = """dd if=/dev/zero of=/dev/null bs={mib}M count=1 || exit
printf '{{"event":"phase","phase":"filled","clock_s":1.0,"peak_bytes":%d,' $(({mib} * 1048576))
echo '"peak_is_of_phase":true,"regions_are_counted":true,"regions":[],"mappings":[]}}'
"""


@pytest.fixture(scope="module")
def server() -> Iterator[AdbServer]:
    with adb_server("qemu-system-aarch64") as running:
        yield running


@pytest.fixture(scope="module")
def phone(server: AdbServer) -> Iterator[SystemPhone]:
    with SystemPhone(SystemMachine(ram_mib=320, swap_mib=100)) as running:
        server.connect(running.serial)
        yield running
        server.run("disconnect", running.serial)


@pytest.fixture
def target(phone: SystemPhone) -> Target:
    return open_target(f"adb:{phone.serial}")


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], JobSpec]:
    """Return a function: text of a shell script → the job that runs it."""

    def spec(text: str) -> JobSpec:
        (tmp_path / "run.sh").write_text(text)
        return JobSpec(("sh", "run.sh"), {"run.sh": tmp_path / "run.sh"})

    return spec


Script = Callable[[str], JobSpec]


def left_on(target: Target) -> str:
    return target.run(f"find {target.folder} -type f").output


def test_a_run_within_memory_is_ok(target: Target, script: Script, tmp_path: Path) -> None:
    result = run_job(target, script(FILL.format(mib=20)), tmp_path / "out")
    assert result.verdict == "ok"
    assert result.counters_after.swapped_out_bytes == result.counters_before.swapped_out_bytes
    assert target.facts().provenance == "qemu-system"
    assert left_on(target) == ""


def test_a_run_that_barely_fits_is_under_pressure(
    target: Target, script: Script, tmp_path: Path
) -> None:
    result = run_job(target, script(FILL.format(mib=270)), tmp_path / "out")
    assert (result.verdict, result.status) == ("under_pressure", 0)
    # Zeros are not even written to swap; the waiting for it counts.
    assert "every process waited for memory" in result.reason
    assert left_on(target) == ""


def test_a_run_that_does_not_fit_is_killed_for_memory(
    target: Target, script: Script, tmp_path: Path
) -> None:
    # The kernel chooses the largest process, which is dd; the script has the name of the runner.
    result = run_job(target, script(f"exec {FILL.format(mib=700)}"), tmp_path / "out")
    assert (result.verdict, result.status) == ("oom_killed", 137)
    assert "choose a smaller bundle or context" in result.reason
    assert left_on(target) == ""


def test_a_machine_that_starts_anew_loses_the_job(
    target: Target, phone: SystemPhone, script: Script, tmp_path: Path
) -> None:
    result = run_job(
        target, script("echo begun; sleep 600"), tmp_path / "out", lambda line: phone.reboot()
    )
    assert result.verdict == "lost_device"
    assert "it restarted during the run" in result.reason
    assert left_on(target) == ""
