"""Builds what the doubles run from, once, into the user's cache.

python -m tests.doubles.prepare
"""

import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pocketlm.device_tests.errors import DeviceError
from pocketlm.runtime_py.user_cache import cache_folder, kept
from tests.doubles import images, packages, roots

_KEPT_S = 24 * 3600


@dataclass(frozen=True)
class Prepared:
    """Where what the doubles need lies.

    Attributes:
        phone, board: trees for qemu-user.
        kernel, first_files: of the emulated machine.
        phone_disk, board_disk: what it has of the same trees.
    """

    phone: Path
    board: Path
    kernel: Path
    first_files: Path
    phone_disk: Path
    board_disk: Path


def prepared() -> Prepared:
    """Return what was built.

    Raises:
        DeviceError: it was not, or by another version of this package.
    """
    folder = _folder()
    if not folder.exists():
        raise DeviceError(
            f"the emulated devices are not built, {folder} is missing; "
            "build them once: python -m tests.doubles.prepare"
        )
    return _in(folder)


def prepare(tell: Callable[[str], None]) -> Prepared:
    """Build what is missing, and remove what earlier versions built days ago.

    Raises:
        DeviceError: a tool is missing, or packages cannot be downloaded.
    """
    folder = _folder()

    def build(out: Path) -> None:
        debs = _packages(tell)
        with tempfile.TemporaryDirectory(dir=out) as scratch:
            unpacked = Path(scratch) / "unpacked"
            unpacked.mkdir()
            tell("unpacking")
            packages.unpack(debs, unpacked)
            _build(unpacked, out, tell)

    kept(folder, build)
    _remove_old()
    return _in(folder)


def _remove_old() -> None:
    needed = (_folder(), _packages_folder())
    for pattern in ("built-*", "packages-*"):
        for folder in _ours().glob(pattern):
            # A double of another version of this package may still run from a younger one.
            if folder not in needed and time.time() - folder.stat().st_mtime > _KEPT_S:
                shutil.rmtree(folder, ignore_errors=True)


def _build(unpacked: Path, out: Path, tell: Callable[[str], None]) -> None:
    places = _in(out)
    tell("putting the phone and the board together")
    for place, fill in ((places.phone, roots.phone_root), (places.board, roots.board_root)):
        place.mkdir()
        fill(unpacked, place, "qemu-user")

    tell("making the disks of the emulated machine")
    images.kernel(unpacked, places.kernel)
    places.first_files.write_bytes(images.first_file_system(unpacked))
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        phone, board = Path(scratch) / "phone", Path(scratch) / "board"
        for place, fill in ((phone, roots.phone_root), (board, roots.board_root)):
            place.mkdir()
            fill(unpacked, place, "qemu-system")
        images.add_init(phone)
        images.system_disk(phone, places.phone_disk)
        images.system_disk(board, places.board_disk)


def _packages(tell: Callable[[str], None]) -> Path:
    folder = _packages_folder()
    if not folder.exists():
        tell("downloading 65 MB of Debian packages")
    return kept(folder, packages.download)


def _in(folder: Path) -> Prepared:
    return Prepared(
        phone=folder / "phone",
        board=folder / "board",
        kernel=folder / "kernel",
        first_files=folder / "first.cpio",
        phone_disk=folder / "phone.ext4",
        board_disk=folder / "board.ext4",
    )


def _packages_folder() -> Path:
    asked = " ".join((packages.SUITE, packages.KERNEL, *packages.PROGRAMS))
    return _ours() / f"packages-{_digest(asked.encode())}"


def _folder() -> Path:
    # The recipe is the source: whatever changes in it, the next call builds anew.
    modules = (images, packages, roots)
    sources = [Path(module.__file__ or "") for module in modules]
    sources += sorted(images.GUEST.iterdir())
    recipe = b"".join(source.read_bytes() for source in sources)
    return _ours() / f"built-{_digest(recipe)}"


def _ours() -> Path:
    return cache_folder() / "doubles"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def main() -> int:
    """Build, telling so on stderr; print the folder."""
    try:
        done = prepare(lambda text: print(f"{text} ...", file=sys.stderr, flush=True))  # noqa: T201
    except DeviceError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    print(done.phone.parent)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
