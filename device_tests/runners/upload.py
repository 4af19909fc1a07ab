"""What lies on a device for longer than a job: bundles and runners, each under its digest.

    FOLDER/bundles/DIGEST/...      as in the bundle, but for what only the host needs
    FOLDER/runners/DIGEST/...      the runner, its libraries and the sampler, in one folder

A folder's name is the digest of what belongs in it, and each file is checked as it is sent, so what
is there already is not sent again, and an interrupted push goes on where it stopped.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pocketlm.device_tests.device.shell import check, quote
from pocketlm.device_tests.device.target import Target
from pocketlm.device_tests.runners.payload import Payload
from pocketlm.runtime_py.bundle import Bundle
from pocketlm.runtime_py.manifest import MANIFEST_NAME, BackendEntry
from pocketlm.runtime_py.recorded_settings import GOLDEN_FOLDER

BUNDLES, RUNNERS = "bundles", "runners"
_DIGEST_LENGTH = 16
# Bytes sent, bytes in all, and the file that is being sent.
UploadProgress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Uploaded:
    """Where a bundle and its runner lie on a device.

    Attributes:
        source: the bundle's folder here.
    """

    bundle: PurePosixPath
    runner: PurePosixPath
    source: Path = Path()


@dataclass(frozen=True)
class _File:
    source: Path
    path: PurePosixPath
    size_bytes: int
    executable: bool


def bundle_digest(bundle: Bundle) -> str:
    """Return the sha256 of a bundle's manifest, which holds those of all its files."""
    return hashlib.sha256((bundle.folder / MANIFEST_NAME).read_bytes()).hexdigest()


def folder_name(bundle: Bundle) -> str:
    """Return what a bundle's folder on a device is called."""
    return bundle_digest(bundle)[:_DIGEST_LENGTH]


def upload(target: Target, bundle: Bundle, payload: Payload, progress: UploadProgress) -> Uploaded:
    """Send what a run needs and the device does not have yet.

    Args:
        progress: called with bytes done, bytes in all and the file.

    Raises:
        LostDeviceError, RefusedError: the device went away, or is full, or forbids it.
    """
    uploaded = Uploaded(
        target.folder / BUNDLES / folder_name(bundle),
        target.folder / RUNNERS / payload.digest[:_DIGEST_LENGTH],
        bundle.folder.resolve(),
    )
    _send_all(target, _bundle_files(bundle, (payload.backend,), uploaded.bundle), progress)
    runner = [
        _File(file.path, uploaded.runner / file.name, file.path.stat().st_size, file.executable)
        for file in payload.files
    ]
    _send_all(target, runner, progress)
    return uploaded


def upload_bundle(
    target: Target, bundle: Bundle, backends: tuple[str, ...], progress: UploadProgress
) -> PurePosixPath:
    """Send a bundle with the artifacts of some backends; return its folder on the device.

    Raises:
        LostDeviceError, RefusedError: the device went away, or is full, or forbids it.
    """
    folder = target.folder / BUNDLES / folder_name(bundle)
    _send_all(target, _bundle_files(bundle, backends, folder), progress)
    return folder


def _send_all(target: Target, files: list[_File], progress: UploadProgress) -> None:
    """Send files that are not there yet, and let the programs among them be run."""
    total, before = sum(file.size_bytes for file in files), 0
    for file in files:

        def report_bytes(
            done: int, of: int, before: int = before, name: str = file.path.name
        ) -> None:
            progress(before + done, total, name)

        report_bytes(0, file.size_bytes)
        target.send(file.source, file.path, report_bytes)
        before += file.size_bytes
    programs = [quote(file.path) for file in files if file.executable]
    if programs:
        check(target.run(f"chmod 755 {' '.join(programs)}"), f"{target.name}: chmod")


def _bundle_files(bundle: Bundle, backends: tuple[str, ...], folder: PurePosixPath) -> list[_File]:
    """The manifest last: a bundle that has one is whole."""
    left_out = {
        _folder_of(entry)
        for name, entry in bundle.manifest.backends.items()
        if name not in backends
    }
    # Golden answers are compared on the host.
    wanted = [
        (entry.path, entry.size_bytes)
        for entry in bundle.manifest.files
        if entry.path.partition("/")[0] not in {*left_out, GOLDEN_FOLDER}
    ]
    manifest = bundle.folder / MANIFEST_NAME
    wanted.append((MANIFEST_NAME, manifest.stat().st_size))
    return [_File(bundle.folder / path, folder / path, size, False) for path, size in wanted]


def _folder_of(entry: BackendEntry) -> str:
    return entry.model.partition("/")[0]
