"""What is inside the doubles under qemu-user: mounts, made-up files of the kernel, and a daemon."""

from dataclasses import dataclass
from pathlib import Path

from tests.doubles.cpus import cpu_called, cpuinfo
from tests.doubles.roots import ADBD, BOARD_USER, SHELL_UID
from tests.doubles.tools import tool
from tests.doubles.world import Mount, World

PHONE_DATA = "/data/local/tmp"
BOARD_DATA = f"/home/{BOARD_USER}"
_PORT = 5555  # inside, in a network of its own
_MIB = 1 << 20
_CORE_KHZ = 2_000_000
_MILLICELSIUS = 41_000


@dataclass(frozen=True)
class UserMachine:
    """What a machine under qemu-user is like.

    Attributes:
        cpu: one of `CPUS`.
        memory_mib: what it says it has; nothing limits its programs to it.
        data_mib: size of the user's folder in memory, to fill it up; None for one on disk.
        data: that folder on disk, which lets everybody write; None for a temporary one.
        writable: whether the user may write to it, where it is not `data`. A phone's shell user
            may never write to /data/local.
    """

    cpu: str = "max,sve=off,sme=off"
    cores: int = 8
    memory_mib: int = 3750
    data_mib: int | None = None
    data: Path | None = None
    writable: bool = True


def phone_world(root: Path, machine: UserMachine, folder: Path) -> World:
    """Describe a phone with adbd, run by the shell user.

    Args:
        root: an Android-shaped tree, which is not changed.
        folder: a temporary one for what lies on disk.
    """
    data = _data_mount(PHONE_DATA, machine, folder)
    env = {
        "ADBD_PORT": str(_PORT),
        "ANDROID_DATA": "/data",
        "ANDROID_ROOT": "/system",
        "HOME": PHONE_DATA,
        "PATH": "/system/bin",
        "QEMU_CPU": machine.cpu,
        "TMPDIR": PHONE_DATA,
    }
    mounts = (Mount("/data", mode=0o771), data)
    return _world(root, machine, mounts, command=(ADBD,), env=env, uid=SHELL_UID)


def board_world(root: Path, machine: UserMachine, folder: Path, keys: Path) -> World:
    """Describe a small Debian with an ssh server.

    Args:
        root: its tree, which is not changed.
        folder: a temporary one for what lies on disk.
        keys: host_key and authorized_keys.
    """
    mounts = (
        Mount("/tmp", size_bytes=64 * _MIB, mode=0o1777),
        Mount("/run"),
        Mount("/run/sshd"),
        Mount("/run/pocketlm", str(keys)),
        _data_mount(BOARD_DATA, machine, folder),
    )
    command = ("/usr/sbin/sshd", "-D", "-e", "-p", str(_PORT),
               # Sessions do not inherit the server's environment.
               "-o", f"SetEnv=QEMU_CPU={machine.cpu}")  # fmt: skip
    env = {"PATH": "/usr/sbin:/usr/bin", "QEMU_CPU": machine.cpu}
    return _world(root, machine, mounts, command=command, env=env, uid=0)


def _world(
    root: Path,
    machine: UserMachine,
    mounts: tuple[Mount, ...],
    *,
    command: tuple[str, ...],
    env: dict[str, str],
    uid: int,
) -> World:
    return World(
        root=str(root),
        emulator=tool("qemu-aarch64-static"),
        mounts=(Mount("/sys"), *mounts),
        files={
            "/proc/cpuinfo": cpuinfo(cpu_called(machine.cpu), machine.cores),
            "/proc/meminfo": _meminfo(machine.memory_mib),
            **_sys_files(machine.cores),
        },
        # Its files belong to users that exist only inside, who alone can delete them.
        emptied="" if machine.data else mounts[-1].place,
        command=command,
        env=env,
        uid=uid,
        port=_PORT,
    )


def _data_mount(place: str, machine: UserMachine, folder: Path) -> Mount:
    mode = 0o1777 if machine.writable else 0o755
    if machine.data_mib is not None:
        return Mount(place, size_bytes=machine.data_mib * _MIB, mode=mode)
    if machine.data is not None:
        return Mount(place, str(machine.data.absolute()))
    data = folder / "data"
    data.mkdir()
    data.chmod(mode)
    return Mount(place, str(data))


def _meminfo(memory_mib: int) -> str:
    total_kb = memory_mib * 1024
    sizes_kb = {
        "MemTotal": total_kb,
        "MemFree": total_kb // 12,
        "MemAvailable": total_kb * 2 // 5,
        "Buffers": 0,
        "Cached": total_kb // 3,
        "SwapTotal": total_kb // 2,
        "SwapFree": total_kb // 3,
        "Shmem": 0,
    }
    return "".join(f"{name + ':':<16}{size:>8} kB\n" for name, size in sizes_kb.items())


def _sys_files(cores: int) -> dict[str, str]:
    folder = "/sys/devices/system/cpu"
    last = f"0-{cores - 1}\n" if cores > 1 else "0\n"
    files = {f"{folder}/{name}": last for name in ("online", "possible", "present")}
    for core in range(cores):
        of_core = f"{folder}/cpu{core}"
        files |= {
            f"{of_core}/cpufreq/{name}": f"{_CORE_KHZ}\n"
            for name in ("cpuinfo_max_freq", "scaling_cur_freq")
        }
        files[f"{of_core}/topology/core_id"] = f"{core}\n"
        files[f"{of_core}/topology/physical_package_id"] = "0\n"
    zone = "/sys/class/thermal/thermal_zone0"
    return files | {f"{zone}/type": "cpu-0-0\n", f"{zone}/temp": f"{_MILLICELSIUS}\n"}
