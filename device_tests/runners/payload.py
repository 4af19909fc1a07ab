"""What a device needs to run bundles of one backend: files, and the command that starts them."""

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pocketlm.device_tests import runners
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.runners import compilation
from pocketlm.device_tests.runners.compilation import (
    BESIDE,
    SOURCES,
    Toolchain,
    compile_sampler,
    toolchain,
)
from pocketlm.device_tests.runners.packages import (
    Runtime,
    Tell,
    runtime,
)
from pocketlm.runtime_py.user_cache import cache_folder, kept

RUNNER = "runner"
SAMPLER = "sampler"
_LOADERS = {"aarch64": "ld-linux-aarch64.so.1", "x86_64": "ld-linux-x86-64.so.2"}
# What the runners and the runtimes' libraries ask for.
_LIBC = (
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "librt.so.1",
    "libpthread.so.0",
    "libgcc_s.so.1",
    "libstdc++.so.6",
)


@dataclass(frozen=True)
class PayloadFile:
    """One file; on the device all of them lie in one folder."""

    name: str
    path: Path
    sha256: str
    executable: bool


@dataclass(frozen=True)
class Payload:
    """Everything but the bundle.

    Attributes:
        command: starts the runner, from inside the folder; its arguments follow.
        sampler: starts the sampler likewise.
        runtime, runtime_version: what is inside, by its distribution's name.
    """

    backend: str
    architecture: str
    files: tuple[PayloadFile, ...]
    command: tuple[str, ...]
    sampler: tuple[str, ...]
    runtime: str
    runtime_version: str

    @property
    def size_bytes(self) -> int:
        return sum(file.path.stat().st_size for file in self.files)

    @property
    def digest(self) -> str:
        """sha256 over the names and digests of all files."""
        listed = "".join(f"{file.sha256}  {file.name}\n" for file in self.files)
        return hashlib.sha256(listed.encode()).hexdigest()


def payload(
    backend: str, architecture: str, own_libc: bool, tell: Tell = lambda step: None
) -> Payload:
    """Compile and gather what a device needs; what was made before is taken from the cache.

    Args:
        backend: one of `runners.names()`.
        architecture: of the device, as `uname -m` says.
        own_libc: bring the toolchain's C library and loader, for systems that have none, such as
            Android, or one that is older than the toolchain's.
        tell: called with what takes long, as it begins.

    Raises:
        DeviceError: no compiler, no libraries for this processor, or none can be fetched.
    """
    tools = toolchain(architecture)
    found = runtime(backend, architecture, tell)
    made = _compiled(backend, tools, found, tell)
    paths = [made / RUNNER, made / SAMPLER, *runners.load(backend).libraries(found.package)]
    files = {path.name: path for path in paths}
    command: tuple[str, ...] = (f"./{RUNNER}",)
    executable = {RUNNER, SAMPLER}
    if own_libc:
        loader = _LOADERS[architecture]
        files |= {name: _toolchain_file(tools, name) for name in (loader, *_LIBC)}
        command = (f"./{loader}", "--library-path", ".", *command)
        executable.add(loader)
    listed = tuple(
        PayloadFile(name, path, hashlib.sha256(path.read_bytes()).hexdigest(), name in executable)
        for name, path in files.items()
    )
    return Payload(
        backend, architecture, listed, command, (f"./{SAMPLER}",), found.name, found.version
    )


def _compiled(backend: str, tools: Toolchain, found: Runtime, tell: Tell) -> Path:
    name = f"{backend}-{tools.architecture}-{_digest_of_sources(backend, tools, found)[:16]}"

    def make(folder: Path) -> None:
        tell(f"compiling the {backend} runner for {tools.architecture}")
        runners.load(backend).compile(folder / RUNNER, tools, found, BESIDE)
        compile_sampler(folder / SAMPLER, tools)

    return kept(cache_folder() / "runners" / name, make)


def _digest_of_sources(backend: str, tools: Toolchain, found: Runtime) -> str:
    digest = hashlib.sha256()
    for text in (*_versions(tools), found.name, found.version, found.digest):
        digest.update(f"{text}\n".encode())
    # Flags are in compilation.py and in the backend's own __init__.py.
    sources = [Path(compilation.__file__)]
    for part in ("native", "sampler", backend):
        sources += sorted(path for path in (SOURCES / part).iterdir() if path.is_file())
    for path in sources:
        digest.update(path.name.encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _versions(tools: Toolchain) -> list[str]:
    said = []
    for tool in (tools.c, tools.cpp):
        done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False)
        said.append(done.stdout.partition("\n")[0])
    return said


def _toolchain_file(tools: Toolchain, name: str) -> Path:
    command = [tools.cpp, f"-print-file-name={name}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    path = Path(done.stdout.strip())
    # The compiler repeats the name of what it does not find.
    if not path.is_absolute() or not path.exists():
        raise DeviceError(
            f"{tools.cpp} has no {name} for {tools.architecture}; install its C library, on "
            "Debian the package libc6-dev of that architecture"
        )
    return path.resolve()
