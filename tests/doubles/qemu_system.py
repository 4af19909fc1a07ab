"""A whole emulated machine: a phone that adb reaches, and in it a small Debian that ssh reaches.

It has a kernel of its own, so memory, swap, pressure and the OOM killer are what they would be on
a device with as much RAM; times are those of emulation. Both ports are on 127.0.0.1 alone, and
the machine reaches nothing.
"""

import json
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pocketlm.device_tests.errors import DeviceError
from tests.doubles.adb_protocol import daemon_answers
from tests.doubles.cpus import cpu_called
from tests.doubles.images import Entry, cpio, data_disk
from tests.doubles.one_process import OneProcess
from tests.doubles.ports import free_port
from tests.doubles.prepare import Prepared, prepared
from tests.doubles.ssh_access import SshAccess
from tests.doubles.tools import guarded

_ADB_PORT, _SSH_PORT = 5555, 22  # in the machine
_ADBD_OOM_SCORE_ADJ = -900
_LARGE_FILES = _FIRST, _DATA, _HOME = "first.cpio", "data", "home"
_CONSOLE_CHARACTERS = 3000
_POLL_S = 0.05
_QEMU_ANSWERS_S = 20


@dataclass(frozen=True)
class Disk:
    """A disk of its own for a user's folder.

    Attributes:
        folder: files that are on it from the beginning; none where None.
    """

    size_mib: int = 512
    folder: Path | None = None


@dataclass(frozen=True)
class SystemMachine:
    """What an emulated machine is like.

    Attributes:
        ram_mib: of which the kernel keeps about 40 for itself: MemTotal is that much less.
        swap_mib: most that may be swapped, compressed, into its own RAM (zram); 0 for no swap.
        cpu: one of `CPUS`.
        data: /data/local/tmp of the phone.
        home: the home folder of the ssh user.
        shell_oom_score_adj: of what adb starts. Real phones have 0 or, on many builds, -950.
        boot_timeout_s: most that booting may take; with nothing else to do it takes about 8 s.
    """

    ram_mib: int = 1024
    swap_mib: int = 0
    cpu: str = "cortex-a76"
    cores: int = 2
    data: Disk = field(default_factory=Disk)
    home: Disk = field(default_factory=Disk)
    shell_oom_score_adj: int = 0
    boot_timeout_s: float = 120


class SystemPhone(OneProcess):
    """A context in which a machine runs, booted.

    Attributes:
        serial: what adb connects to, once it runs.
        ssh: the configuration to log in with, once it runs.
    """

    def __init__(self, machine: SystemMachine | None = None) -> None:
        super().__init__()
        self._machine = machine or SystemMachine()
        self._folder = Path()
        self._ports = (0, 0)
        self.serial = ""
        self.ssh: SshAccess

    def __enter__(self) -> "SystemPhone":
        with ExitStack() as stack:
            made = tempfile.TemporaryDirectory(prefix="pocketlm-machine-")
            self._folder = Path(stack.enter_context(made))
            stack.callback(self.power_off)
            self._start(prepared())
            self._wait_until_booted()
            # qemu has them open: they live, and take room, just as long as it does, come what may.
            for name in _LARGE_FILES:
                (self._folder / name).unlink()
            self._stack = stack.pop_all()
        return self

    @property
    def console(self) -> str:
        """What the kernel and the first programs said."""
        return (self._folder / "console").read_text(errors="replace")

    def power_off(self) -> None:
        """End the machine as if its battery were taken out. The folder stays until the end."""
        self._end()

    def reboot(self) -> None:
        """Reset the machine, and wait until it has booted again. Its disks keep what they have.

        Raises:
            DeviceError: it does not come up.
        """
        self.reset()
        self._wait_until_booted()

    def reset(self) -> None:
        """Reset the machine without waiting for it."""
        (self._folder / "console").write_text("")
        self._tell("system_reset", "RESET")

    def freeze(self) -> None:
        """Stop the whole machine, its clock included: connections stay, and nothing answers."""
        self._tell("stop", "STOP")

    def resume(self) -> None:
        """Let a frozen machine go on."""
        self._tell("cont", "RESUME")

    def _start(self, files: Prepared) -> None:
        folder = self._folder
        self._ports = (free_port(), free_port())
        self.serial = f"127.0.0.1:{self._ports[0]}"
        self.ssh = SshAccess.make(folder / "ssh")
        self.ssh.lead_to(self._ports[1])
        first = files.first_files.read_bytes() + self._settings()
        (folder / _FIRST).write_bytes(first)
        for name, disk in ((_DATA, self._machine.data), (_HOME, self._machine.home)):
            data_disk(folder / name, disk.size_mib, disk.folder)
        with (folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                guarded(self._command(files)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _command(self, files: Prepared) -> list[str]:
        folder, machine = self._folder, self._machine
        cpu = cpu_called(machine.cpu)
        forwards = "".join(
            f",hostfwd=tcp:127.0.0.1:{outer}-:{inner}"
            for outer, inner in zip(self._ports, (_ADB_PORT, _SSH_PORT), strict=True)
        )
        # What is on the disks is worth nothing after the test: writes wait for no real disk.
        options = "if=none,format=raw,cache=unsafe"
        disks = (  # in the order in which guest/init knows them
            f"{options},readonly=on,file={files.phone_disk}",
            f"{options},readonly=on,file={files.board_disk}",
            f"{options},file={folder / _DATA}",
            f"{options},file={folder / _HOME}",
        )
        return [
            "qemu-system-aarch64", "-nodefaults", "-no-user-config", "-display", "none",
            "-machine", "virt", "-accel", "tcg,thread=multi,tb-size=256",
            "-cpu", cpu.qemu_name + cpu.machine_options, "-smp", str(machine.cores),
            "-m", str(machine.ram_mib),
            "-kernel", str(files.kernel), "-initrd", str(folder / _FIRST),
            # Huge pages only for those who ask, as on Android: they inflate what is resident.
            "-append", "console=ttyAMA0 loglevel=4 rdinit=/init transparent_hugepage=madvise",
            "-chardev", f"file,id=console,append=on,path={folder / 'console'}",
            "-serial", "chardev:console",
            "-qmp", f"unix:{folder / 'qmp'},server=on,wait=off",
            "-netdev", f"user,id=net,restrict=on{forwards}",
            "-device", "virtio-net-pci,netdev=net,romfile=",
            *(
                word
                for number, disk in enumerate(disks)
                for word in ("-drive", f"id=disk{number},{disk}",
                             "-device", f"virtio-blk-pci,drive=disk{number}")
            ),
        ]  # fmt: skip

    def _settings(self) -> bytes:
        machine = self._machine
        text = (
            f"swap_mib={machine.swap_mib}\n"
            # Nobody can go below what the daemon has.
            f"adbd_oom_score_adj={min(_ADBD_OOM_SCORE_ADJ, machine.shell_oom_score_adj)}\n"
            f"shell_oom_score_adj={machine.shell_oom_score_adj}\n"
        )
        server = self.ssh.server
        return cpio(
            (
                Entry("settings", text.encode()),
                *(Entry(f"ssh/{path.name}", path.read_bytes()) for path in server.iterdir()),
            )
        )

    def _wait_until_booted(self) -> None:
        deadline = time.monotonic() + self._machine.boot_timeout_s
        waiting = [(daemon_answers, self._ports[0]), (_ssh_answers, self._ports[1])]
        while waiting:
            answers, port = waiting[0]
            if answers(port, 1):
                del waiting[0]
                continue
            assert self._process is not None
            status = self._process.poll()
            if status is not None or time.monotonic() > deadline:
                how = (
                    f"qemu ended with status {status}"
                    if status is not None
                    else f"it did not answer within {self._machine.boot_timeout_s:g} s"
                )
                said = (self._folder / "qemu.log").read_text(errors="replace").strip()
                raise DeviceError(
                    f"the emulated machine did not boot: {how}. {said}\n"
                    f"Its console ends with:\n{self.console[-_CONSOLE_CHARACTERS:]}"
                )
            time.sleep(_POLL_S)

    def _tell(self, command: str, awaited: str) -> None:
        """Give qemu a command, and wait until it says that this has happened."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_QEMU_ANSWERS_S)
            connection.connect(str(self._folder / "qmp"))
            stream = connection.makefile("rw")
            for execute in ("qmp_capabilities", command):
                stream.write(json.dumps({"execute": execute}) + "\n")
            stream.flush()
            happened = ""
            while happened != awaited:
                answer = json.loads(stream.readline())
                if "error" in answer:
                    raise DeviceError(f"qemu refuses {command}: {answer['error']}")
                happened = answer.get("event", "")


def _ssh_answers(port: int, timeout_s: float) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
