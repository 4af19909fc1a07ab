"""Files to a device and back, whole or not at all: in pieces, proved by sha256.

A file grows under its name with ".part". Where a connection breaks, the next try goes on from what
is there, if that is how the file begins.
"""

import hashlib
import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Protocol

from pocketlm.device_tests.device.retry import retry
from pocketlm.device_tests.device.shell import check, new_nonce, quote, read_sections, section
from pocketlm.device_tests.device.shell_numbers import NUMBER
from pocketlm.device_tests.device.system_files import disk_command, read_free_bytes
from pocketlm.device_tests.device.target import Finished, LostDeviceError, Progress, RefusedError
from pocketlm.device_tests.errors import DeviceError

PIECE_BYTES = 64 * 2**20
RECONNECT_S = 20.0
# Slowest that copying and hashing may be; slower than a phone over a poor wireless network.
_COPIED_BYTES_PER_S = 400_000
_HASHED_BYTES_PER_S = 5_000_000
_BASE_S = 30
_LONGEST_S = 300
_TRIES = 2
_DAMAGED = 99  # status of a command that found something else than was sent


class Copier(Protocol):
    """What a transfer needs of a target."""

    @property
    def name(self) -> str: ...

    def run(self, command: str, *, timeout_s: float = 30) -> Finished: ...

    def push(self, source: Path, path: PurePosixPath, *, timeout_s: float) -> None: ...

    def pull(self, path: PurePosixPath, out: Path, *, timeout_s: float) -> None: ...


class DamagedError(DeviceError):
    """What arrived is not what was sent."""


@dataclass(frozen=True)
class Delivery:
    """One file to send.

    Attributes:
        attempt: another for every try: what a broken connection left running on the device may not
            take what the next try sends for its own.
    """

    source: Path
    path: PurePosixPath
    reserve_bytes: int
    piece_bytes: int = PIECE_BYTES
    attempt: str = field(default_factory=new_nonce)

    @property
    def part(self) -> PurePosixPath:
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def piece(self) -> PurePosixPath:
        return self.path.with_name(f"{self.path.name}.{self.attempt}.part")


@dataclass(frozen=True)
class _Content:
    """A file's size and sha256."""

    size: int
    digest: str


@dataclass(frozen=True)
class _Found:
    """What is there before a file is sent."""

    path: _Content
    part: _Content
    free_bytes: int


def send_file(target: Copier, delivery: Delivery, progress: Progress) -> None:
    """Copy a file there unless it is there already.

    Raises:
        DeviceError: the source cannot be read, or arrived damaged twice.
        RefusedError: the disk is full, or the path cannot be written.
        LostDeviceError: the connection broke twice; the next call goes on from there.
    """
    try:
        whole = _describe_source(delivery.source)
    except OSError as error:
        raise DeviceError(f"sending {delivery.source}: {error.strerror}; choose a file") from error
    for tries_left in reversed(range(_TRIES)):
        try:
            _send_once(target, delivery, whole, progress)
            return
        except (LostDeviceError, DamagedError) as error:
            _wait_for(target)
            lost = isinstance(error, LostDeviceError)
            _remove_parts(target, delivery, lost=lost or tries_left > 0)
            if not tries_left:
                raise
            delivery = replace(delivery, attempt=new_nonce())
        except BaseException:
            _remove_parts(target, delivery)
            raise


def fetch_file(target: Copier, path: PurePosixPath, out: Path) -> None:
    """Copy a file here.

    Raises:
        DeviceError: there is no such file, or it arrived damaged twice.
        LostDeviceError: the connection broke twice.
    """
    part = out.with_name(f"{out.name}.part")
    file = quote(path)
    what = f"{target.name}: reading {path}"
    for tries_left in reversed(range(_TRIES)):
        try:
            # How large it is, and so how long it may take, is not known yet.
            asked = target.run(f"stat -c %s {file} && sha256sum < {file}", timeout_s=_LONGEST_S)
            content = _read_content(check(asked, what))
            target.pull(path, part, timeout_s=_copy_s(content.size))
            if _describe_source(part) != content:
                raise DamagedError(f"{what}: it arrived damaged; check the connection")
            part.replace(out)
            return
        except (LostDeviceError, DamagedError):
            if not tries_left:
                raise
            _wait_for(target)
        finally:
            part.unlink(missing_ok=True)


def _send_once(target: Copier, delivery: Delivery, whole: _Content, progress: Progress) -> None:
    found = _look(target, delivery, whole)
    if found.path == whole:
        progress(whole.size, whole.size)
        return
    done = found.part.size
    # Where what is there is not how the file begins, it is written over.
    if not 0 < done <= whole.size or found.part != _describe_source(delivery.source, done):
        done = 0
    _check_room(target, delivery, whole.size - done, found.free_bytes)
    progress(done, whole.size)
    arriving = delivery.part
    if whole.size <= delivery.piece_bytes and not done:
        arriving = delivery.piece
        target.push(delivery.source, arriving, timeout_s=_copy_s(whole.size))
        done = whole.size
    while done < whole.size:
        done += _append_piece(target, delivery, done)
        progress(done, whole.size)
    mode = "755" if os.access(delivery.source, os.X_OK) else "644"
    file, path, part = map(quote, (arriving, delivery.path, delivery.part))
    finish = f"chmod {mode} {file} && mv -f {file} {path} && rm -f {part}"
    try:
        _if_whole(target, delivery, arriving, whole, finish)
    except DamagedError:
        # The same command of a try whose connection broke may have run on and put it in its place.
        if _look(target, delivery, whole).path != whole:
            raise
    progress(whole.size, whole.size)


def _append_piece(target: Copier, delivery: Delivery, offset: int) -> int:
    """Send the piece that begins at an offset; return its length."""
    with tempfile.TemporaryDirectory(prefix="pocketlm-") as folder, delivery.source.open("rb") as f:
        f.seek(offset)
        piece = Path(folder) / "piece"
        piece.write_bytes(f.read(delivery.piece_bytes))
        content = _describe_source(piece)
        target.push(piece, delivery.piece, timeout_s=_copy_s(content.size))
    there, part = quote(delivery.piece), quote(delivery.part)
    join = f"cat {there} >> {part} && rm {there}" if offset else f"mv -f {there} {part}"
    _if_whole(target, delivery, delivery.piece, content, join)
    return content.size


def _if_whole(
    target: Copier, delivery: Delivery, path: PurePosixPath, content: _Content, then: str
) -> None:
    """Do something with a file there if it is what was sent; otherwise remove it."""
    what = f"{target.name}: writing {delivery.path}"
    file = quote(path)
    done = target.run(
        f"case $(stat -c %s {file})/$(sha256sum < {file}) in "
        f"{content.size}/{content.digest}*) {then} ;; *) rm -f {file}; exit {_DAMAGED} ;; esac",
        timeout_s=_hash_s(2 * content.size),
    )
    if done.status == _DAMAGED:
        raise DamagedError(f"{what}: it arrived damaged; check the connection")
    check(done, what)


def _look(target: Copier, delivery: Delivery, whole: _Content) -> _Found:
    """Find out in one question what there is of a file, and how much room."""
    command = "\n".join(
        (
            "command -v sha256sum >/dev/null || { echo sha256sum: not found; exit 127; }",
            f"mkdir -p {quote(delivery.path.parent)} || exit",
            # A file of another size need not be read.
            section(
                "path",
                f'f={quote(delivery.path)}; [ "$(stat -c %s "$f")" = {whole.size} ] && '
                f'echo {whole.size} && sha256sum < "$f"',
            ),
            section("part", f'f={quote(delivery.part)}; stat -c %s "$f" && sha256sum < "$f"'),
            section("disk", disk_command(str(delivery.path.parent))),
            ":",
        )
    )
    done = target.run(command, timeout_s=_hash_s(2 * whole.size))
    found = read_sections(check(done, f"{target.name}: writing {delivery.path}"))
    return _Found(
        _read_content(found.get("path", "")),
        _read_content(found.get("part", "")),
        read_free_bytes(found.get("disk", "")),
    )


def _check_room(target: Copier, delivery: Delivery, missing_bytes: int, free_bytes: int) -> None:
    needed = missing_bytes + delivery.reserve_bytes
    if missing_bytes > delivery.piece_bytes:
        needed += delivery.piece_bytes  # the last one is there twice for a moment
    if free_bytes < needed:
        raise RefusedError(
            f"{target.name}: {delivery.path} needs {needed / 1e6:,.0f} MB, of which "
            f"{delivery.reserve_bytes / 1e6:,.0f} MB must stay free; "
            f"{free_bytes / 1e6:,.0f} MB are; free some space on the device",
            "no_space",
        )


def _remove_parts(target: Copier, delivery: Delivery, *, lost: bool = False) -> None:
    """Remove what arrived; of a broken connection only what the next try cannot go on from."""
    parts = (delivery.piece,) if lost else (delivery.part, delivery.piece)
    # What cannot be removed now is when the next job starts.
    with suppress(DeviceError):
        target.run(f"rm -f {' '.join(map(quote, parts))}")


def _wait_for(target: Copier) -> None:
    with suppress(LostDeviceError):
        retry(lambda: target.run("true", timeout_s=5), RECONNECT_S)


def _describe_source(path: Path, size: int | None = None) -> _Content:
    """Return the content of a file here, or of how it begins."""
    found = hashlib.sha256()
    wanted = path.stat().st_size if size is None else size
    left = wanted
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(left, 2**20))):
            found.update(block)
            left -= len(block)
    return _Content(wanted - left, found.hexdigest())


def _read_content(text: str) -> _Content:
    """Read a size and what sha256sum says."""
    found = re.match(rf"\s*({NUMBER})\s+([0-9a-f]{{64}})\b", text)
    return _Content(int(found[1]), found[2]) if found else _Content(0, "")


def _copy_s(size: int) -> float:
    return _BASE_S + size / _COPIED_BYTES_PER_S


def _hash_s(size: int) -> float:
    return _BASE_S + size / _HASHED_BYTES_PER_S
