"""What goes wrong with phones, with the real adb and an emulated phone: each a verdict, and nothing
of it is left on the phone."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pytest

from device_tests.doubles.adb_server import AdbServer
from device_tests.doubles.auth_stub import AuthStub
from device_tests.doubles.prepare import prepared
from device_tests.doubles.qemu_user import UserPhone
from device_tests.doubles.tools import missing_tools
from device_tests.doubles.user_worlds import UserMachine
from device_tests.errors import DeviceError
from device_tests.job import collect_job, run_job
from device_tests.job_script import OUTPUT, PID, SAMPLES
from device_tests.job_state import remove_stale
from device_tests.job_values import JobSpec
from device_tests.shell_target import ShellTarget
from device_tests.target import LostDeviceError, RefusedError
from device_tests.targets import list_targets, open_target
from device_tests.verdict import Verdict

pytestmark = pytest.mark.devices

MIB = 2**20
DEADLINE_S = 60


@pytest.fixture(scope="module")
def server() -> Iterator[AdbServer]:
    if missing := missing_tools(("adb", "qemu-aarch64-static", "setpriv")):
        pytest.skip(f"needs {', '.join(missing)}")
    try:
        prepared()
    except DeviceError as error:
        pytest.skip(str(error))
    with AdbServer() as running:
        yield running


@pytest.fixture(autouse=True)
def adb(server: AdbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have our own adb talk to the tests' server."""
    for name in ("ANDROID_ADB_SERVER_PORT", "ADB_MDNS"):
        monkeypatch.setenv(name, server.environment[name])
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)


@contextmanager
def connected(server: AdbServer, machine: UserMachine) -> Iterator[UserPhone]:
    with UserPhone(machine) as phone:
        server.connect(phone.serial)
        yield phone
        server.run("disconnect", phone.serial)


@pytest.fixture(scope="module")
def phone(server: AdbServer) -> Iterator[UserPhone]:
    # In memory, so that it can be full.
    with connected(server, UserMachine(data_mib=192)) as running:
        yield running


@pytest.fixture
def target(phone: UserPhone) -> Iterator[ShellTarget]:
    """The phone; afterwards nothing may be left of ours but what was sent whole."""
    opened = open_target(f"adb:{phone.serial}")
    assert isinstance(opened, ShellTarget)
    yield opened
    remove_stale(opened, part_age_s=0)
    asked = f"find {opened.folder} -type f; ls {opened.folder}/jobs"
    left = opened.run(f"{{ {asked}; }} 2>/dev/null; rm -rf {opened.folder}").output.split()
    assert [path for path in left if "/whole-" not in path] == []


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


def when(server: AdbServer, phone: UserPhone, condition: str) -> None:
    """Wait until a command succeeds on the phone."""
    deadline = time.monotonic() + DEADLINE_S
    asked = f"{condition} && echo now"
    while "now" not in server.run("-s", phone.serial, "shell", asked).stdout:
        assert time.monotonic() < deadline, condition


def test_a_phone_is_listed_with_its_facts(phone: UserPhone) -> None:
    (found,) = (listed for listed in list_targets() if listed.name == f"adb:{phone.serial}")
    assert found.state == "ready"
    assert found.facts is not None
    assert (found.facts.model, found.facts.provenance) == ("Emulated phone", "qemu-user")
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
    assert "sleep" not in target.run("ps -A -o ARGS").output


@pytest.mark.parametrize(
    ("text", "verdict", "status"),
    [
        ("kill -ILL $$", "illegal_instruction", 132),
        ("kill -SEGV $$", "crashed", 139),
        ("kill -KILL $$", "killed_unknown", 137),
        ("exec ./nothing", "runner_error", 127),
        ("exec /data", "permission", 126),
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
    assert "sleep" not in target.run("ps -A -o ARGS").output


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


def test_a_place_that_is_not_ours(target: ShellTarget, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    local = PurePosixPath("/data/local")
    for place, words in (
        (local / "x" / "big", "mkdir: .*Permission denied; this user may not"),
        (local / "big", "couldn't create file: Permission denied; this user may not"),
        (PurePosixPath("/system/x/big"), "Read-only file system|Permission denied"),
    ):
        with pytest.raises(RefusedError, match=words) as error:
            target.send(tmp_path / "file", place, reserve_bytes=0)
        assert error.value.reason == "permission"


def test_a_daemon_that_dies_while_a_file_comes(
    target: ShellTarget, phone: UserPhone, server: AdbServer, big: Path
) -> None:
    pushed: list[int] = []

    def restart() -> None:
        when(server, phone, f"[ -s {target.folder}/whole-big.piece.part ]")
        phone.kill_daemon()
        phone.restart_daemon()

    def show(done: int, total: int) -> None:
        pushed.append(done)

    small_pieces = ShellTarget(target.link, target.folder, piece_bytes=16 * MIB)
    with meanwhile(restart):
        small_pieces.send(big, target.folder / "whole-big", show)
    assert pushed[-1] == 48 * MIB
    digest = target.run(f"sha256sum {target.folder}/whole-big").output.split()[0]
    assert digest == hashlib.sha256(big.read_bytes()).hexdigest()


def test_a_daemon_that_dies_in_a_command(
    target: ShellTarget, phone: UserPhone, server: AdbServer
) -> None:
    def kill() -> None:
        when(server, phone, f"[ -e {target.folder}/whole-mark ]")
        phone.kill_daemon()

    with meanwhile(kill), pytest.raises(LostDeviceError, match="the connection broke"):
        target.run(f"mkdir -p {target.folder}; touch {target.folder}/whole-mark; sleep 20")
    phone.restart_daemon()
    # Of this adb's own, such a phone stays offline.
    assert target.run("echo back").output == "back\n"


def test_a_daemon_that_hangs(target: ShellTarget, phone: UserPhone) -> None:
    phone.freeze()
    try:
        with pytest.raises(
            LostDeviceError, match="a command: no answer within 2 s; check its cabl"
        ):
            target.run("true", timeout_s=2)
    finally:
        phone.resume()
    assert target.run("echo back").output == "back\n"


def test_a_job_outlives_its_daemon(
    target: ShellTarget, phone: UserPhone, script: Script, tmp_path: Path
) -> None:
    lines: list[str] = []

    def cut(line: str) -> None:
        lines.append(line)
        if line == "begun":
            phone.kill_daemon()
            phone.restart_daemon()

    result = run_job(target, script("echo begun; sleep 3; echo ended"), tmp_path / "out", cut)
    assert result.verdict == "ok"
    assert lines == ["begun", "ended"]


def test_a_lost_job_is_collected_later(
    target: ShellTarget, phone: UserPhone, script: Script, tmp_path: Path
) -> None:
    spec = script("echo begun; sleep 3; echo ended")
    lost = run_job(target, spec, tmp_path / "out", lambda line: phone.kill_daemon(), reconnect_s=1)
    assert lost.verdict == "lost_device"
    phone.restart_daemon()
    found = open_target(target.name)
    lines: list[str] = []
    result = collect_job(found, lost.nonce, tmp_path / "out", lines.append)
    assert result.verdict == "ok"
    assert lines == ["begun", "ended"]


def test_a_job_whose_phone_hangs_is_lost(
    target: ShellTarget,
    phone: UserPhone,
    script: Script,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("device_tests.job_attendance._ANSWER_S", 2)
    spec = script("echo begun; sleep 1")
    lost = run_job(target, spec, tmp_path / "out", lambda line: phone.freeze(), reconnect_s=1)
    phone.resume()
    assert lost.verdict == "lost_device"
    assert "no answer within 2 s" in lost.reason
    assert collect_job(target, lost.nonce, tmp_path / "out").verdict == "ok"


def test_a_phone_that_has_not_allowed_us(server: AdbServer) -> None:
    with AuthStub() as stub:
        server.run("connect", stub.serial)
        try:
            with pytest.raises(RefusedError, match="accept this computer") as error:
                open_target(f"adb:{stub.serial}")
            (found,) = (d for d in list_targets() if d.name == f"adb:{stub.serial}")
        finally:
            server.run("disconnect", stub.serial)
    assert error.value.reason == "unauthorized"
    assert found.state == "unauthorized"
    assert "Allow USB debugging?" in found.advice


def test_two_phones_and_none_named(phone: UserPhone, server: AdbServer) -> None:
    with AuthStub() as stub:
        server.run("connect", stub.serial)
        try:
            with pytest.raises(DeviceError, match="there are 2 devices; name one: ") as error:
                open_target("adb")
        finally:
            server.run("disconnect", stub.serial)
    assert f"adb:{phone.serial} (device)" in str(error.value)
    assert open_target("adb").name == f"adb:{phone.serial}"


def test_a_phone_that_nobody_knows(phone: UserPhone) -> None:
    with pytest.raises(DeviceError, match=f"no such device; adb sees {phone.serial}"):
        open_target("adb:R58M123")


def test_a_phone_that_goes_away(server: AdbServer, script: Script, tmp_path: Path) -> None:
    with connected(server, UserMachine()) as other:
        gone = open_target(f"adb:{other.serial}")
    result = run_job(gone, script("true"), tmp_path / "out", reconnect_s=1)
    assert result.verdict == "lost_device"
    with pytest.raises(LostDeviceError, match="adb cannot connect to it"):
        open_target(gone.name)
