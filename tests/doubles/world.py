"""The small world that a qemu-user double lives in: its mounts, its emulator, its network.

Made from inside, by a process that is root of namespaces of its own. Needs the standard library
alone.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import signal
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNS, _CLONE_NEWPID = 0x10000000, 0x00020000, 0x20000000
_CLONE_NEWNET, _CLONE_NEWIPC = 0x40000000, 0x08000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_NOATIME, _MS_BIND, _MS_REC, _MS_PRIVATE = 32, 1024, 4096, 16384, 1 << 18
_MS_RELATIME = 1 << 21
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 1, 22, 2
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
# Programs for 64-bit ARM begin like this; F opens the interpreter now, so that it is found in
# every root, C gives set-user-id programs their owner's rights, O hands the program over open.
_MAGIC = rb"\x7fELF\x02\x01\x01" + rb"\x00" * 9 + rb"\x02\x00\xb7\x00"
_MASK = rb"\xff" * 7 + rb"\x00" + rb"\xff" * 8 + rb"\xfe\xff\xff\xff"
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Mount:
    """What covers a place of the root.

    Attributes:
        source: a file or folder from outside; empty for memory of `size_bytes`.
        mode: of the covered folder, where it is memory.
    """

    place: str
    source: str = ""
    size_bytes: int = 1 << 20
    mode: int = 0o755


@dataclass(frozen=True)
class World:
    """What is inside, and the daemon.

    Attributes:
        emulator: path outside of the static qemu for 64-bit ARM.
        mounts: in this order, after /dev and /proc.
        files: contents by place in what is mounted or in /proc; their folders are made.
        emptied: place of a folder that is left empty at the end; "" for none.
        command: the daemon, in the root.
        port: that it listens on.
    """

    root: str
    emulator: str
    mounts: tuple[Mount, ...]
    files: dict[str, str]
    emptied: str
    command: tuple[str, ...]
    env: dict[str, str]
    uid: int
    port: int


def unshare() -> None:
    """Leave this machine's users, mounts, processes to come and network.

    Raises:
        OSError: this machine does not let its users do so.
    """
    _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWNET | _CLONE_NEWIPC)


def become_root() -> None:
    """Be root in here, and end when the parent does."""
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL)


def make(world: World) -> None:
    """Make it, in namespaces of our own. Memory covers what is written: its root is read-only."""
    root = Path(world.root)
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    _bring_up_loopback()
    _forbid_vsock()
    _register_emulator(world.emulator)
    _bind(root, root)
    _bind_read_only(root)
    _make_devices(root / "dev")
    _mount("proc", root / "proc", "proc")
    for entry in world.mounts:
        place = root / entry.place.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        if entry.source:
            _bind(Path(entry.source), place)
        else:
            _mount("tmpfs", place, "tmpfs", 0, f"size={entry.size_bytes},mode={entry.mode:o}")
    for number, (name, content) in enumerate(world.files.items()):
        place = root / name.lstrip("/")
        if name.startswith("/proc/"):
            # The kernel's: covered, not written.
            cover = root / "dev" / f".cover{number}"
            cover.write_text(content)
            _bind(cover, place)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content)


def clear(world: World) -> None:
    """End every other process in here, and empty what is to be emptied."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:  # who has no parent left is a child of the first process
            os.wait()
    if world.emptied:
        for entry in (Path(world.root) / world.emptied.lstrip("/")).iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()


def _make_devices(folder: Path) -> None:
    _mount("tmpfs", folder, "tmpfs", 0, "size=16m,mode=755")
    for name in ("full", "null", "random", "tty", "urandom", "zero"):
        (folder / name).touch()
        _bind(Path("/dev") / name, folder / name)
    (folder / "pts").mkdir()
    _mount("devpts", folder / "pts", "devpts", 0, "newinstance,ptmxmode=0666")
    (folder / "ptmx").symlink_to("pts/ptmx")


def _register_emulator(emulator: str) -> None:
    registry = Path("/proc/sys/fs/binfmt_misc")
    # Of this user namespace alone, since Linux 6.7; the machine's own is not changed.
    _mount("binfmt_misc", registry, "binfmt_misc")
    rule = b":qemu-aarch64:M::" + _MAGIC + b":" + _MASK + b":" + os.fsencode(emulator) + b":OCF"
    (registry / "register").write_bytes(rule)


def _forbid_vsock() -> None:
    """Refuse sockets to virtual machines and their host, which no network namespace holds."""
    number_of_socket = {"x86_64": 41, "aarch64": 198}[os.uname().machine]
    load, equal, give = 0x20, 0x15, 0x06  # BPF: load a word, jump if equal, return
    allow, refuse = 0x7FFF0000, 0x00050000 | errno.EAFNOSUPPORT
    program = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (load, 0, 0, 0),  # the system call's number
            (equal, 0, 3, number_of_socket),
            (load, 0, 0, 16),  # its first argument
            (equal, 0, 1, socket.AF_VSOCK),
            (give, 0, 0, refuse),
            (give, 0, 0, allow),
        )
    )
    code = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    )
    _call("prctl", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header)


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(probe, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def _bind(source: Path, place: Path) -> None:
    _mount(source, place, "", _MS_BIND | _MS_REC)


def _bind_read_only(place: Path) -> None:
    # What the file system below it forbids has to stay forbidden in a user namespace.
    found = os.statvfs(place).f_flag
    kept = found & (_MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    if found & os.ST_NOATIME:
        kept |= _MS_NOATIME
    if found & os.ST_RELATIME:
        kept |= _MS_RELATIME
    _mount("none", place, "", _MS_REMOUNT | _MS_BIND | _MS_RDONLY | kept)


def _mount(
    source: str | Path, place: str | Path, kind: str, flags: int = 0, data: str = ""
) -> None:
    words = [os.fsencode(word) for word in (source, place, kind)]
    try:
        _call("mount", *words, ctypes.c_ulong(flags), data.encode())
    except OSError as error:
        raise OSError(
            error.errno, f"mount {kind or source}: {error.strerror}", str(place)
        ) from error


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
