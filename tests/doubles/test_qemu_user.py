"""The phone and the board under qemu-user, with the real adb and ssh."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.doubles.adb_server import AdbServer
from tests.doubles.qemu_user import UserBoard, UserPhone
from tests.doubles.ssh_access import ALIAS
from tests.doubles.user_worlds import UserMachine

_DATA = "/data/local/tmp"


@pytest.fixture(autouse=True)
def tools(skip_without: Callable[..., None]) -> None:
    skip_without("qemu-aarch64-static")


@pytest.fixture(scope="module")
def phone(adb: AdbServer, skip_without: Callable[..., None]) -> Iterator[UserPhone]:
    """One for the tests that leave it as it is."""
    skip_without("qemu-aarch64-static")
    with UserPhone() as running:
        adb.connect(running.serial)
        yield running
        adb.run("disconnect", running.serial)


def _shell(adb: AdbServer, phone: UserPhone, line: str) -> subprocess.CompletedProcess[str]:
    return adb.run("-s", phone.serial, "shell", line)


def test_it_is_a_phone_of_another_processor(adb: AdbServer, phone: UserPhone) -> None:
    done = _shell(adb, phone, "uname -m; id -u; getprop ro.product.model; cat /etc/pocketlm-double")
    assert done.stdout.split("\n") == ["aarch64", "2000", "Emulated phone", "qemu-user", ""]
    assert done.returncode == 0


def test_it_says_that_it_has_the_memory_and_processor_asked_for(adb: AdbServer) -> None:
    with UserPhone(UserMachine(cpu="cortex-a57", cores=4, memory_mib=2000)) as running:
        adb.connect(running.serial)
        said = _shell(adb, running, "head -n 1 /proc/meminfo; cat /proc/cpuinfo").stdout
        adb.run("disconnect", running.serial)
    assert said.split()[:3] == ["MemTotal:", str(2000 * 1024), "kB"]
    assert said.count("0xd07") == 4
    assert "asimddp" not in said


def test_a_file_arrives_as_it_was(adb: AdbServer, phone: UserPhone, tmp_path: Path) -> None:
    content = b"".join(n.to_bytes(4, "little") for n in range(500_000))
    (tmp_path / "file").write_bytes(content)
    assert adb.run("-s", phone.serial, "push", tmp_path / "file", _DATA).returncode == 0
    arrived = _shell(adb, phone, f"sha256sum {_DATA}/file").stdout.split()[0]
    assert arrived == hashlib.sha256(content).hexdigest()


def test_statuses_and_errors_are_androids(adb: AdbServer, phone: UserPhone) -> None:
    assert _shell(adb, phone, "exit 3").returncode == 3
    assert _shell(adb, phone, "kill -9 $$").returncode == 137
    missing = _shell(adb, phone, "nosuch")
    assert missing.returncode == 127
    assert "nosuch: inaccessible or not found" in missing.stdout


def test_only_its_own_folder_can_be_written_to(adb: AdbServer, phone: UserPhone) -> None:
    for place, error in (
        ("/data/local/file", "Permission denied"),
        ("/system/file", "Read-only file system"),
    ):
        assert error in adb.run("-s", phone.serial, "push", __file__, place).stdout
    with UserPhone(UserMachine(writable=False)) as running:
        adb.connect(running.serial)
        refused = adb.run("-s", running.serial, "push", __file__, f"{_DATA}/file")
        adb.run("disconnect", running.serial)
    assert "Permission denied" in refused.stdout


def test_its_folder_can_be_full(adb: AdbServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(3 << 20))
    with UserPhone(UserMachine(data_mib=2)) as running:
        adb.connect(running.serial)
        refused = adb.run("-s", running.serial, "push", tmp_path / "file", f"{_DATA}/file")
        adb.run("disconnect", running.serial)
    assert refused.returncode == 1
    assert "No space left on device" in refused.stdout


def test_its_folder_can_be_one_of_ours(adb: AdbServer, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "file").write_text("ours")
    with UserPhone(UserMachine(data=tmp_path)) as running:
        adb.connect(running.serial)
        said = _shell(adb, running, f"cat {_DATA}/file").stdout
        adb.run("disconnect", running.serial)
    assert said == "ours"
    assert (tmp_path / "file").read_text() == "ours"


def test_it_can_hang_and_go_on(adb: AdbServer, phone: UserPhone) -> None:
    phone.freeze()
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            adb.run("-s", phone.serial, "shell", "true", timeout_s=0.5)
        assert adb.state(phone.serial) == "device"
    finally:
        phone.resume()
    assert _shell(adb, phone, "true").returncode == 0


def test_its_daemon_can_die_and_come_back(adb: AdbServer) -> None:
    with UserPhone() as running:
        adb.connect(running.serial)
        running.kill_daemon()
        _wait(lambda: adb.state(running.serial) == "offline")
        assert "refused" in adb.run("connect", running.serial).stdout
        running.restart_daemon()
        adb.connect(running.serial)
        assert _shell(adb, running, "echo back").stdout == "back\n"
        adb.run("disconnect", running.serial)


def test_two_run_at_once(adb: AdbServer, phone: UserPhone) -> None:
    with UserPhone() as other:
        adb.connect(other.serial)
        for one in (phone, other):
            assert _shell(adb, one, "echo there").stdout == "there\n"
        assert "more than one device" in adb.run("shell", "true").stdout
        adb.run("disconnect", other.serial)


def test_only_this_machine_reaches_it(phone: UserPhone) -> None:
    inside = psutil.Process(phone.pid).children(recursive=True)
    listening = [
        connection.laddr.ip
        for connection in psutil.net_connections("inet")
        if connection.status == "LISTEN" and connection.laddr.port == phone.port
    ]
    assert listening == ["127.0.0.1"]
    # The daemon listens on every address, of a network that only it is in.
    ours = Path("/proc/self/ns/net").readlink()
    assert all(Path(f"/proc/{process.pid}/ns/net").readlink() != ours for process in inside)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, RuntimeError])
def test_nothing_is_left_of_it(adb: AdbServer, error: type[BaseException] | None) -> None:
    processes = []
    try:
        with UserPhone() as running:
            adb.connect(running.serial)
            _shell(adb, running, f"setsid sleep 1000 >/dev/null 2>&1 & mkdir {_DATA}/of-its-user")
            root = psutil.Process(running.pid)
            processes += [root, *root.children(recursive=True)]
            if error:
                raise error
    except (KeyboardInterrupt, RuntimeError):
        pass
    assert len(processes) >= 4
    assert not [process for process in processes if process.is_running()]
    adb.run("disconnect", running.serial)


def test_nothing_is_left_of_it_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from tests.doubles.adb_server import AdbServer\n"
        "from tests.doubles.qemu_user import UserPhone\n"
        "with AdbServer() as adb, UserPhone() as phone:\n"
        "    adb.connect(phone.serial)\n"
        "    print(adb.pid, phone.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=root,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        started = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        started += [child for process in started for child in process.children(recursive=True)]
        assert len(started) >= 4
        parent.kill()
    for process in started:
        _wait(lambda process=process: not process.is_running())  # type: ignore[misc]


def test_a_board_lets_in_whom_it_made_keys_for() -> None:
    with UserBoard(UserMachine(cpu="cortex-a76")) as board:

        def ssh(line: str) -> subprocess.CompletedProcess[str]:
            command = ["ssh", "-F", str(board.ssh.config), ALIAS, line]
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

        done = ssh("uname -m; id -un; cat /etc/pocketlm-double; echo $QEMU_CPU; touch x; exit 3")
        assert done.stdout.split() == ["aarch64", "pi", "qemu-user", "cortex-a76"]
        assert done.returncode == 3
        board.kill_daemon()
        assert "Connection refused" in ssh("true").stderr
        board.restart_daemon()
        assert ssh("ls").stdout == "x\n"


def _wait(is_so: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)
