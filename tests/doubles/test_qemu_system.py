"""The whole emulated machine, with the real adb and ssh."""

import hashlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pocketlm.device_tests.errors import DeviceError
from tests.doubles.adb_server import AdbServer
from tests.doubles.qemu_system import Disk, SystemMachine, SystemPhone
from tests.doubles.ssh_access import ALIAS

pytestmark = pytest.mark.devices

_RAM_MIB, _SWAP_MIB = 320, 128
_CONTENT = bytes(range(256)) * 20_000


@pytest.fixture(autouse=True, scope="module")
def tools(skip_without: Callable[..., None]) -> None:
    skip_without("qemu-system-aarch64", "mke2fs", "unshare", "setpriv", "ssh", "ssh-keygen")


@pytest.fixture(scope="module")
def phone(adb: AdbServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemPhone]:
    folder = tmp_path_factory.mktemp("data")
    (folder / "pocketlm").mkdir()
    (folder / "pocketlm" / "model.pte").write_bytes(_CONTENT)
    machine = SystemMachine(ram_mib=_RAM_MIB, swap_mib=_SWAP_MIB, data=Disk(256, folder))
    with SystemPhone(machine) as running:
        adb.connect(running.serial)
        yield running
        adb.run("disconnect", running.serial)


@pytest.fixture
def shell(adb: AdbServer, phone: SystemPhone) -> Callable[[str], subprocess.CompletedProcess[str]]:
    return lambda line: adb.run("-s", phone.serial, "shell", line, timeout_s=120)


Shell = Callable[[str], subprocess.CompletedProcess[str]]


def _ssh(phone: SystemPhone, line: str) -> subprocess.CompletedProcess[str]:
    command = ["ssh", "-F", str(phone.ssh.config), ALIAS, line]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_it_is_a_phone_of_another_processor(shell: Shell) -> None:
    said = shell("uname -m; id -u; getprop ro.product.model; cat /etc/pocketlm-double; nproc")
    assert said.stdout.split("\n") == ["aarch64", "2000", "Emulated phone", "qemu-system", "2", ""]
    assert said.returncode == 0


def test_it_has_the_memory_and_swap_asked_for(shell: Shell) -> None:
    lines = (line.split() for line in shell("cat /proc/meminfo").stdout.splitlines())
    mib = {words[0].rstrip(":"): int(words[1]) / 1024 for words in lines}
    # What the kernel keeps: its own code and data, and a description of every page.
    assert _RAM_MIB - 50 < mib["MemTotal"] < _RAM_MIB
    assert mib["SwapTotal"] == pytest.approx(_SWAP_MIB, abs=0.1)
    # The daemons and the trees of the double take little of it.
    assert mib["MemAvailable"] > mib["MemTotal"] - 60


def test_the_kernel_tells_of_pressure(shell: Shell) -> None:
    assert shell("cat /proc/pressure/memory").stdout.startswith("some avg10=")
    assert shell("cat /proc/sys/vm/overcommit_memory").stdout == "1\n"


def test_the_files_of_the_folder_are_on_it_and_the_shell_users(shell: Shell) -> None:
    said = shell("cd /data/local/tmp && ls && sha256sum pocketlm/model.pte && touch pocketlm/new")
    assert said.stdout.split()[:2] == ["pocketlm", hashlib.sha256(_CONTENT).hexdigest()]
    assert said.returncode == 0


def test_a_file_arrives_as_it_was(
    adb: AdbServer, phone: SystemPhone, shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(_CONTENT[::-1])
    assert adb.run("-s", phone.serial, "push", tmp_path / "file", "/data/local/tmp").returncode == 0
    arrived = shell("sha256sum /data/local/tmp/file").stdout.split()[0]
    assert arrived == hashlib.sha256(_CONTENT[::-1]).hexdigest()


def test_what_is_too_large_is_killed_and_the_daemon_lives(phone: SystemPhone, shell: Shell) -> None:
    before = shell("grep oom_kill /proc/vmstat; cat /proc/self/oom_score_adj").stdout.split()
    assert before == ["oom_kill", "0", "0"]
    assert shell(f"dd if=/dev/zero of=/dev/null bs={_RAM_MIB * 2}M count=1").returncode == 137
    assert shell("grep oom_kill /proc/vmstat").stdout.split() == ["oom_kill", "1"]
    assert "Out of memory: Killed process" in phone.console


def test_the_board_in_it_lets_in_whom_it_made_keys_for(phone: SystemPhone) -> None:
    said = _ssh(phone, "uname -m; id -un; cat /etc/pocketlm-double; pwd; touch x; exit 3")
    assert said.stdout.split() == ["aarch64", "pi", "qemu-system", "/home/pi"]
    assert said.returncode == 3


def test_only_this_machine_reaches_it_and_it_reaches_nothing(
    phone: SystemPhone, shell: Shell
) -> None:
    listening = [
        connection.laddr.ip
        for connection in psutil.Process(phone.pid).net_connections("inet")
        if connection.status == "LISTEN"
    ]
    assert listening == ["127.0.0.1", "127.0.0.1"]
    # Where qemu's network would lead to this machine's own loopback.
    port = phone.serial.split(":")[1]
    assert shell(f"nc -w 2 10.0.2.2 {port} </dev/null").returncode != 0


def test_it_can_hang_and_go_on(adb: AdbServer, phone: SystemPhone, shell: Shell) -> None:
    phone.freeze()
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            adb.run("-s", phone.serial, "shell", "true", timeout_s=1)
    finally:
        phone.resume()
    assert shell("true").returncode == 0


def test_its_disk_survives_a_reboot(adb: AdbServer, phone: SystemPhone, shell: Shell) -> None:
    shell("echo kept >/data/local/tmp/kept; sync")
    first = shell("cat /proc/sys/kernel/random/boot_id").stdout
    phone.reboot()
    adb.connect(phone.serial)
    assert shell("cat /proc/sys/kernel/random/boot_id").stdout != first
    assert shell("cat /data/local/tmp/kept").stdout == "kept\n"


def test_nothing_is_left_of_it_when_its_battery_is_taken_out(adb: AdbServer) -> None:
    with SystemPhone(SystemMachine(ram_mib=256, shell_oom_score_adj=-950)) as running:
        adb.connect(running.serial)
        spared = adb.run("-s", running.serial, "shell", "cat /proc/self/oom_score_adj").stdout
        assert spared == "-950\n"
        process = psutil.Process(running.pid)
        assert process.is_running()
        folder = running.ssh.folder
        running.power_off()
        assert not process.is_running()
        assert _ssh(running, "true").returncode == 255
    assert not folder.exists()


def test_one_that_does_not_boot_shows_its_console() -> None:
    with pytest.raises(DeviceError, match=r"did not boot: it did not answer within 0\.5 s"):
        SystemPhone(SystemMachine(ram_mib=256, boot_timeout_s=0.5)).__enter__()
