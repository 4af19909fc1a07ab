"""What a whole emulated machine boots from: a kernel, its first file system, and disks."""

import lzma
import re
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pocketlm.device_tests.errors import DeviceError
from tests.doubles.tools import run_tool, tool

GUEST = Path(__file__).parent / "guest"
_MIB = 1 << 20
# The rest of what the machine needs is built into the kernel.
_MODULES = ("virtio_blk", "virtio_net", "zram")
_FOLDERS = ("dev", "modules", "newroot", "proc", "ssh", "sys")
_CONSOLE = (5, 1)


@dataclass(frozen=True)
class Entry:
    """One file, folder (no content) or device of a cpio archive."""

    name: str
    content: bytes = b""
    mode: int = stat.S_IFREG | 0o644
    device: tuple[int, int] = (0, 0)


def cpio(entries: Iterable[Entry]) -> bytes:
    """Return an archive that the kernel unpacks at its start, in the "newc" format.

    Several of them, one after the other, are unpacked over each other.
    """
    out = bytearray()
    for number, entry in enumerate((*entries, Entry("TRAILER!!!", mode=0)), start=1):
        name = entry.name.encode() + b"\0"
        fields = (number, entry.mode, 0, 0, 1, 0, len(entry.content), 0, 0, *entry.device,
                  len(name), 0)  # fmt: skip
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + name
        out += bytes(-len(out) % 4)
        out += entry.content
        out += bytes(-len(out) % 4)
    return bytes(out)


def first_file_system(unpacked: Path) -> bytes:
    """Return the archive that brings the disks up: busybox, kernel modules and `guest/init`.

    Raises:
        DeviceError: the packages lack a file.
    """
    modules = _with_dependencies(unpacked, _MODULES)
    program = stat.S_IFREG | 0o755
    return cpio(
        (
            *(Entry(name, mode=stat.S_IFDIR | 0o755) for name in _FOLDERS),
            Entry("dev/console", mode=stat.S_IFCHR | 0o600, device=_CONSOLE),
            Entry("busybox", (unpacked / "usr" / "bin" / "busybox").read_bytes(), program),
            Entry("init", (GUEST / "init").read_bytes(), program),
            *(Entry(f"modules/{name}", content) for name, content in modules.items()),
            Entry("modules/order", "\n".join(modules).encode()),
        )
    )


def add_init(root: Path) -> None:
    """Add to a phone's tree what starts its daemons: on Android that is hidden as well."""
    folder = root / "double"
    (folder / "run").mkdir()
    for name in ("adbd", "sshd"):
        shutil.copy(GUEST / name, folder / name)
    shutil.copy(GUEST / "inittab", root / "system" / "etc" / "inittab")
    shell = root / "system" / "bin" / "sh"
    shell.unlink()
    shutil.copy(GUEST / "system_sh", shell)


def kernel(unpacked: Path, out: Path) -> None:
    """Copy the kernel.

    Raises:
        DeviceError: the packages have none.
    """
    found = sorted((unpacked / "boot").glob("vmlinuz-*"))
    if not found:
        raise DeviceError("no downloaded Debian package has a kernel")
    shutil.copyfile(found[-1], out)


def system_disk(tree: Path, out: Path) -> None:
    """Write a disk that is only read, with a tree on it that is root's.

    Raises:
        DeviceError: mke2fs fails.
    """
    content = sum(path.lstat().st_size + 4096 for path in tree.rglob("*"))
    _format(out, content * 5 // 4 + 8 * _MIB, tree, "-O", "^has_journal")


def data_disk(out: Path, size_mib: int, folder: Path | None) -> None:
    """Write a disk that is empty, or has the files of a folder. It takes what is on it.

    Raises:
        DeviceError: mke2fs fails, as where the files are larger than the disk.
    """
    _format(out, size_mib * _MIB, folder)


def _format(out: Path, size_bytes: int, tree: Path | None, *options: str) -> None:
    with out.open("wb") as disk:
        disk.truncate(size_bytes)
    content = ["-d", str(tree.absolute())] if tree else []
    # As root of a user namespace of its own, to which our files are root's.
    run_tool(
        (
            *("unshare", "--map-root-user", tool("mke2fs"), "-q", "-F", "-t", "ext4"),
            *("-b", "4096", "-m", "0", *options, *content, str(out)),
        )
    )


def _with_dependencies(unpacked: Path, names: Iterable[str]) -> dict[str, bytes]:
    files = {
        path.name.removesuffix(".ko.xz").replace("-", "_"): path
        for path in (unpacked / "usr" / "lib" / "modules").rglob("*.ko.xz")
    }
    ordered: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in ordered:
            return
        if name not in files:
            raise DeviceError(f"the downloaded kernel has no module {name}")
        content = lzma.decompress(files[name].read_bytes())
        needed = re.search(rb"\0depends=([^\0]*)\0", content)
        for other in needed.group(1).decode().split(",") if needed else ():
            if other:
                add(other.replace("-", "_"))
        ordered[name] = content

    for name in names:
        add(name)
    return ordered
