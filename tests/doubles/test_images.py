"""What an emulated machine boots from, without booting it."""

import lzma
import stat
import subprocess
from pathlib import Path

import pytest

from pocketlm.device_tests.errors import DeviceError
from tests.doubles.images import Entry, cpio, data_disk, first_file_system
from tests.doubles.tools import advice, missing_tools, tool

_DISK_TOOLS = ("mke2fs", "debugfs", "unshare")
needs_disk_tools = pytest.mark.skipif(
    bool(missing_tools(_DISK_TOOLS)), reason=advice(missing_tools(_DISK_TOOLS))
)


def _read_cpio(archive: bytes) -> dict[str, tuple[int, bytes]]:
    found = {}
    place = 0
    while place < len(archive):
        assert archive[place : place + 6] == b"070701"
        fields = [int(archive[place + 6 + 8 * n : place + 14 + 8 * n], 16) for n in range(13)]
        name_start = place + 110
        name = archive[name_start : name_start + fields[11] - 1].decode()
        start = -(-(name_start + fields[11]) // 4) * 4
        found[name] = (fields[1], archive[start : start + fields[6]])
        place = -(-(start + fields[6]) // 4) * 4
    return found


def test_an_archive_holds_what_was_put_in() -> None:
    entries = (Entry("a", b"12345"), Entry("dev", mode=stat.S_IFDIR | 0o755), Entry("bcd", b""))
    archive = cpio(entries)
    assert len(archive) % 4 == 0
    found = _read_cpio(archive)
    assert list(found) == ["a", "dev", "bcd", "TRAILER!!!"]
    assert found["a"] == (stat.S_IFREG | 0o644, b"12345")
    assert found["dev"][0] == stat.S_IFDIR | 0o755


def test_archives_can_follow_each_other() -> None:
    found = _read_cpio(cpio((Entry("a", b"1"),)) + cpio((Entry("settings", b"2"),)))
    assert (found["a"][1], found["settings"][1]) == (b"1", b"2")


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    modules = tmp_path / "usr" / "lib" / "modules" / "6.0" / "kernel"
    modules.mkdir(parents=True)
    for name, needed in (
        ("virtio_blk", ""),
        ("virtio_net", "net_failover"),
        ("net_failover", "failover"),
        ("failover", ""),
        ("zram", "lz4-compress"),
        ("lz4-compress", ""),
    ):
        content = f"\0name={name}\0depends={needed}\0".encode()
        (modules / f"{name}.ko.xz").write_bytes(lzma.compress(content))
    (tmp_path / "usr" / "bin").mkdir()
    (tmp_path / "usr" / "bin" / "busybox").write_bytes(b"busybox")
    return tmp_path


def test_modules_are_loaded_after_those_they_need(unpacked: Path) -> None:
    found = _read_cpio(first_file_system(unpacked))
    assert found["modules/order"][1].split() == [
        b"virtio_blk", b"failover", b"net_failover", b"virtio_net", b"lz4_compress", b"zram",
    ]  # fmt: skip
    assert b"name=zram" in found["modules/zram"][1]


def test_a_module_that_is_missing_is_named(unpacked: Path) -> None:
    next(unpacked.rglob("failover.ko.xz")).unlink()
    with pytest.raises(DeviceError, match="no module failover"):
        first_file_system(unpacked)


@needs_disk_tools
def test_a_disk_has_the_files_of_the_folder_as_roots(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "model.pte").write_bytes(bytes(range(256)) * 100)
    disk = tmp_path / "disk"
    data_disk(disk, 64, folder)
    assert disk.stat().st_size == 64 << 20
    assert disk.stat().st_blocks * 512 < 16 << 20
    done = subprocess.run(
        [tool("debugfs"), "-R", "stat sub/model.pte", disk],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Size: 25600" in done.stdout
    assert "User:     0" in done.stdout


@needs_disk_tools
def test_a_disk_that_is_too_small_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "large").write_bytes(bytes(range(256)) * 40_000)
    with pytest.raises(DeviceError, match="unshare failed"):
        data_disk(tmp_path / "disk", 4, tmp_path / "folder")
