"""What goes wrong with devices, with the real adb and the real ssh and an emulated device behind
each: a verdict, and nothing of it is left on the device."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pocketlm.device_tests.device.shell_target import ShellTarget
from pocketlm.device_tests.device.target import LostDeviceError, RefusedError
from pocketlm.device_tests.device.targets import list_targets, open_target
from pocketlm.device_tests.job.lifecycle import collect_job, run_job
from pocketlm.device_tests.job.script import OUTPUT, PID, SAMPLES
from pocketlm.device_tests.job.state import remove_stale
from pocketlm.device_tests.job.values import JobSpec
from pocketlm.device_tests.job.verdict import Verdict
from tests.device_tests.doubled_devices import (
    DoubledDevice,
    adb_server,
    board_over_ssh,
    phone_over_adb,
)
from tests.doubles.adb_server import AdbServer
from tests.doubles.user_worlds import UserMachine

pytestmark = pytest.mark.devices

MIB = 2**20
DEADLINE_S = 120


@pytest.fixture(scope="module")
def server() -> Iterator[AdbServer]:
    # Also over ssh: what lists devices asks adb as well, which must not be the developer's.
    with adb_server() as running:
        yield running


@pytest.fixture(scope="module", params=["adb", "ssh"])
def device(request: pytest.FixtureRequest, server: AdbServer) -> Iterator[DoubledDevice]:
    # In memory, so that it can be full.
    machine = UserMachine(data_mib=192)
    kind = phone_over_adb(server, machine) if request.param == "adb" else board_over_ssh(machine)
    with kind as running:
        yield running


@pytest.fixture
def target(device: DoubledDevice) -> Iterator[ShellTarget]:
    """The device; afterwards nothing may be left of ours but what was sent whole."""
    with closing(opened(device.name)) as found:
        yield found
        remove_stale(found, part_age_s=0)
        asked = f"find {found.folder} -type f; ls {found.folder}/jobs"
        left = found.run(f"{{ {asked}; }} 2>/dev/null; rm -rf {found.folder}").output.split()
    assert [path for path in left if "/whole-" not in path] == []


def opened(name: str) -> ShellTarget:
    found = open_target(name)
    assert isinstance(found, ShellTarget)
    return found


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], JobSpec]:
    """Return a function: text of a shell script → the job that runs it."""

    def spec(text: str) -> JobSpec:
        (tmp_path / "run.sh").write_text(text)
        return JobSpec(("sh", "run.sh"), {"run.sh": tmp_path / "run.sh"}, timeout_s=120)

    return spec


Script = Callable[[str], JobSpec]


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(48 * MIB)
    return path


@contextmanager
def meanwhile(action: Callable[[], None]) -> Iterator[None]:
    """Do something in a thread of its own while the block runs."""
    thread = threading.Thread(target=action)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def when(device: DoubledDevice, condition: str) -> None:
    """Wait until a command succeeds on the device, which is asked over a connection of its own."""
    deadline = time.monotonic() + DEADLINE_S
    with closing(opened(device.name)) as asked:
        while asked.run(condition).status:
            assert time.monotonic() < deadline, condition


def running_on(target: ShellTarget) -> str:
    return target.run("ps -A -o args").output


def test_a_device_is_listed_with_its_facts(device: DoubledDevice) -> None:
    (found,) = (listed for listed in list_targets([device.name]) if listed.name == device.name)
    assert found.state == "ready"
    assert found.facts is not None
    assert (found.facts.system, found.facts.provenance) == (device.system, "qemu-user")
    assert found.facts.architecture == "aarch64"
    assert "asimddp" in found.facts.cpu_features
    assert found.facts.cores == 8


def test_a_job_and_its_companion_run(target: ShellTarget, script: Script, tmp_path: Path) -> None:
    spec = script("echo $$; while [ ! -s job.samples ]; do sleep 0.1; done")
    watch = ("sh", "-c", "echo $0; exec sleep 100", PID)
    spec = JobSpec(spec.command, spec.files, companion=watch, timeout_s=60)
    result = run_job(target, spec, tmp_path / "out")
    assert result.verdict == "ok"
    assert result.files[SAMPLES].read_text() == result.files[OUTPUT].read_text()
    assert result.thermal_before.warmest_celsius == 41
    assert "sleep" not in running_on(target)


@pytest.mark.parametrize(
    ("text", "verdict", "status"),
    [
        ("kill -ILL $$", "illegal_instruction", 132),
        ("kill -SEGV $$", "crashed", 139),
        ("kill -KILL $$", "killed_unknown", 137),
        ("exec ./nothing", "runner_error", 127),
        ("exec /proc", "permission", 126),
    ],
)
def test_the_runners_end_comes_back(
    text: str, verdict: Verdict, status: int, target: ShellTarget, script: Script, tmp_path: Path
) -> None:
    result = run_job(target, script(text), tmp_path / "out")
    assert (result.verdict, result.status) == (verdict, status)


def test_a_late_job_is_stopped_there(target: ShellTarget, script: Script, tmp_path: Path) -> None:
    late = script("echo begun; sleep 100")
    result = run_job(target, JobSpec(late.command, late.files, timeout_s=3), tmp_path / "out")
    assert result.verdict == "timeout"
    assert "sleep" not in running_on(target)


def test_a_disk_too_small_is_said_before(target: ShellTarget, tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(192 * MIB)
    with pytest.raises(RefusedError, match="needs 302 MB, of which 34 MB must stay") as error:
        target.send(huge, target.folder / "huge")
    assert error.value.reason == "no_space"


def test_a_disk_that_fills_up_while_a_file_comes(target: ShellTarget, big: Path) -> None:
    def fill(done: int, total: int) -> None:
        if done == 16 * MIB:
            target.run(f"head -c 300000000 /dev/zero > {target.folder}/whole-filler")

    small_pieces = ShellTarget(target.link, target.folder, piece_bytes=16 * MIB)
    with pytest.raises(RefusedError, match="; free some space on the device") as error:
        small_pieces.send(big, target.folder / "big", fill)
    assert error.value.reason == "no_space"


def test_a_disk_that_fills_up_while_a_job_runs(
    target: ShellTarget, script: Script, tmp_path: Path
) -> None:
    full = run_job(target, script("head -c 300000000 /dev/zero > x"), tmp_path / "out")
    assert full.verdict == "no_space"
    # Also where the runner does not say so.
    full = run_job(target, script("head -c 300000000 /dev/zero > x; exit 0"), tmp_path / "out")
    assert full.verdict == "no_space"


def test_a_place_that_is_not_ours(
    target: ShellTarget, device: DoubledDevice, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("text")
    for path, words in (
        (device.foreign / "x" / "big", "mkdir: .*Permission denied; this user may not"),
        (
            device.foreign / "big",
            "big.*: Permission denied; this user may not|"
            "couldn't create file: Permission denied; this user may not",
        ),
        (device.unwritable / "x" / "big", "Read-only file system|Permission denied"),
    ):
        with pytest.raises(RefusedError, match=words) as error:
            target.send(tmp_path / "file", path, reserve_bytes=0)
        assert error.value.reason == "permission"


def test_a_daemon_that_dies_while_a_file_comes(
    target: ShellTarget, device: DoubledDevice, big: Path
) -> None:
    pushed: list[int] = []

    def restart() -> None:
        when(device, f"[ -s {target.folder}/whole-big.*.part ]")
        device.double.kill_daemon()
        device.double.restart_daemon()

    def show(done: int, total: int) -> None:
        pushed.append(done)

    small_pieces = ShellTarget(target.link, target.folder, piece_bytes=16 * MIB)
    with meanwhile(restart):
        small_pieces.send(big, target.folder / "whole-big", show)
    assert pushed[-1] == 48 * MIB
    digest = target.run(f"sha256sum {target.folder}/whole-big").output.split()[0]
    assert digest == hashlib.sha256(big.read_bytes()).hexdigest()


def test_a_daemon_that_dies_in_a_command(target: ShellTarget, device: DoubledDevice) -> None:
    def kill() -> None:
        when(device, f"[ -e {target.folder}/whole-mark ]")
        device.double.kill_daemon()

    with meanwhile(kill), pytest.raises(LostDeviceError, match="the connection broke"):
        target.run(f"mkdir -p {target.folder}; touch {target.folder}/whole-mark; sleep 20")
    device.double.restart_daemon()
    # For adb 29 such a phone stays offline, and ssh's shared connection is gone.
    assert target.run("echo back").output == "back\n"


def test_a_daemon_that_hangs(target: ShellTarget, device: DoubledDevice) -> None:
    device.double.freeze()
    try:
        words = f"a command: no answer within 2 s; {device.check}"
        with pytest.raises(LostDeviceError, match=words):
            target.run("true", timeout_s=2)
    finally:
        device.double.resume()
    assert target.run("echo back").output == "back\n"


def test_a_job_outlives_its_daemon(
    target: ShellTarget, device: DoubledDevice, script: Script, tmp_path: Path
) -> None:
    lines: list[str] = []

    def cut(line: str) -> None:
        lines.append(line)
        if line == "begun":
            device.double.kill_daemon()
            device.double.restart_daemon()

    result = run_job(target, script("echo begun; sleep 3; echo ended"), tmp_path / "out", cut)
    assert result.verdict == "ok"
    assert lines == ["begun", "ended"]


def test_a_lost_job_is_collected_later(
    target: ShellTarget, device: DoubledDevice, script: Script, tmp_path: Path
) -> None:
    spec = script("echo begun; sleep 3; echo ended")
    lost = run_job(
        target, spec, tmp_path / "out", lambda line: device.double.kill_daemon(), reconnect_s=1
    )
    assert lost.verdict == "lost_device"
    device.double.restart_daemon()
    lines: list[str] = []
    with closing(opened(target.name)) as found:
        result = collect_job(found, lost.nonce, tmp_path / "out", lines.append)
    assert result.verdict == "ok"
    assert lines == ["begun", "ended"]


def test_a_job_whose_device_hangs_is_lost(
    target: ShellTarget,
    device: DoubledDevice,
    script: Script,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pocketlm.device_tests.job.watcher._ANSWER_S", 5)
    spec = script("echo begun; sleep 1")
    lost = run_job(
        target, spec, tmp_path / "out", lambda line: device.double.freeze(), reconnect_s=1
    )
    device.double.resume()
    assert lost.verdict == "lost_device"
    assert "no answer within 5 s" in lost.reason
    assert collect_job(target, lost.nonce, tmp_path / "out").verdict == "ok"


def test_a_device_that_goes_away(
    target: ShellTarget, device: DoubledDevice, script: Script, tmp_path: Path
) -> None:
    device.double.kill_daemon()
    try:
        result = run_job(target, script("true"), tmp_path / "out", reconnect_s=1)
        with pytest.raises(LostDeviceError, match=device.gone):
            open_target(device.name)
    finally:
        device.double.restart_daemon()
    assert result.verdict == "lost_device"
