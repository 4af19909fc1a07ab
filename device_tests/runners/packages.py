"""Runtime libraries for a processor: from installed wheels for this one, fetched ones for others.

pip does the fetching. What it brings is held against a recorded digest, and only headers and
libraries are kept.
"""

import hashlib
import importlib.metadata
import platform
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pocketlm.device_tests import runners
from pocketlm.device_tests.errors import DeviceError
from pocketlm.runtime_py.user_cache import cache_folder, kept

Tell = Callable[[str], None]  # what takes long, as it begins


@dataclass(frozen=True)
class Wheel:
    """One file of a package index.

    Attributes:
        platform: the tag of the oldest system that it runs on.
        python: release that it is made for. Its runtime libraries do not depend on that.
        keep: folders inside that hold headers and libraries.
    """

    distribution: str
    version: str
    architecture: str
    platform: str
    python: str
    sha256: str
    keep: tuple[str, ...]


@dataclass(frozen=True)
class Runtime:
    """The unpacked libraries of one runtime for one processor.

    Attributes:
        package: folder of the wheel's Python package.
        digest: of the wheel where it was fetched; its release where it is installed.
    """

    name: str
    version: str
    package: Path
    digest: str


def runtime(backend: str, architecture: str, tell: Tell) -> Runtime:
    """Return a backend's runtime for a processor, fetched if it was not yet.

    Raises:
        DeviceError: no wheel is recorded, it cannot be fetched, or it is another file.
    """
    if architecture == platform.machine():
        return installed(backend)
    runner = runners.load(backend)
    distribution = runner.distribution
    for wheel in runner.wheels:
        if wheel.architecture == architecture:
            folder = unpacked(wheel, tell)
            return Runtime(distribution, wheel.version, folder / distribution, wheel.sha256)
    recorded = {wheel.architecture for wheel in runner.wheels}
    known = ", ".join(sorted(recorded | {platform.machine()}))
    raise DeviceError(
        f"{distribution} for {architecture}: no wheel is recorded; there are some for {known}"
    )


def unpacked(wheel: Wheel, tell: Tell) -> Path:
    """Return the folder that holds a wheel's headers and libraries, fetched once.

    Raises:
        DeviceError: it cannot be fetched, or is not the recorded file; then nothing is kept.
    """
    name = f"{wheel.distribution}-{wheel.version}-{wheel.architecture}-{wheel.sha256[:16]}"

    def make(folder: Path) -> None:
        tell(f"fetching {wheel.distribution} {wheel.version} for {wheel.architecture}")
        with tempfile.TemporaryDirectory() as temporary:
            _unpack(_fetch(wheel, Path(temporary)), wheel, folder)

    return kept(cache_folder() / "packages" / name, make)


def installed(backend: str) -> Runtime:
    """Return the runtime of a backend's installed wheel, for this machine's processor.

    Raises:
        DeviceError: it is not installed, or without libraries for C++.
    """
    runner = runners.load(backend)
    distribution = runner.distribution
    spec = find_spec(distribution)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        package = Path(place)
        if runner.has_libraries(package):
            version = importlib.metadata.version(distribution)
            return Runtime(distribution, version, package, f"installed {version}")
    raise DeviceError(
        f"the runner needs the libraries of {distribution}'s wheel{runner.first_release}; "
        "pip install 'pocketlm[build]'"
    )


def _fetch(wheel: Wheel, folder: Path) -> Path:
    wanted = f"{wheel.distribution}=={wheel.version}"
    command = (
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
        "--quiet", "--disable-pip-version-check", "--dest", str(folder),
        "--platform", wheel.platform, "--python-version", wheel.python, wanted,
    )  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = list(folder.glob("*.whl"))
    if done.returncode or len(found) != 1:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise DeviceError(
            f"pip cannot fetch {wanted} for {wheel.platform}: {said[-1]}; with a connection, run "
            "this once and the libraries stay"
        )
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if digest != wheel.sha256:
        raise DeviceError(
            f"{found[0].name}: sha256 is {digest}, recorded is {wheel.sha256}; nothing of it was "
            "kept; fetch it from an index that you trust"
        )
    return found[0]


def _unpack(file: Path, wheel: Wheel, out: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.startswith(wheel.keep)]
        archive.extractall(out, names)
