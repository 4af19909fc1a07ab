"""Compiles the runners for a processor: sources here, libraries from the runtimes' wheels."""

import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketlm.device_tests.errors import DeviceError

SOURCES = Path(__file__).parent
# The folder that the runner is in, to the loader.
BESIDE = "$ORIGIN"
_NATIVE = ("runner.c", "bundle.c", "events.c", "json.c", "phases.c")
WARNINGS = ("-Wall", "-Wextra")
C_FLAGS = ("-std=c11", "-D_GNU_SOURCE", *WARNINGS, "-O2")


@dataclass(frozen=True)
class Toolchain:
    """Compilers for one kind of processor."""

    architecture: str
    c: str
    cpp: str


def toolchain(architecture: str | None = None) -> Toolchain:
    """Return this machine's own compilers, or cross compilers.

    Raises:
        DeviceError: they are not installed.
    """
    wanted = architecture or platform.machine()
    prefix = "" if wanted == platform.machine() else f"{wanted}-linux-gnu-"
    found = Toolchain(wanted, f"{prefix}gcc", f"{prefix}g++")
    missing = [tool for tool in (found.c, found.cpp) if shutil.which(tool) is None]
    if missing:
        package = "gcc g++" if not prefix else f"gcc-{prefix[:-1]} g++-{prefix[:-1]}"
        raise DeviceError(
            f"compiling for {wanted}: {' and '.join(missing)} not found; "
            f"on Debian: apt-get install {package.replace('_', '-')}"
        )
    return found


def compile_sampler(out: Path, tools: Toolchain) -> Path:
    """Write the sampler, linked statically.

    Raises:
        DeviceError: the compiler fails.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    source = SOURCES / "sampler" / "sampler.c"
    _run((tools.c, *C_FLAGS, "-static", "-s", str(source), "-o", str(out)))
    return out


def compile_native(out: Path, tools: Toolchain) -> list[Path]:
    """Return the objects of what all runners share."""
    out.parent.mkdir(parents=True, exist_ok=True)
    return [object_file(out, SOURCES / "native" / name, (tools.c, *C_FLAGS)) for name in _NATIVE]


def object_file(out: Path, source: Path, compiler: Sequence[str]) -> Path:
    """Return the object of one source, beside the executable `out`."""
    target = out.with_name(f"{out.name}.{source.name}.o")
    _run((*compiler, "-c", str(source), "-o", str(target)))
    return target


def link(
    out: Path, objects: Sequence[Path], compiler: str, linked: Sequence[str], run_path: str
) -> None:
    """Link the executable and remove the objects."""
    inputs = map(str, objects)
    _run((compiler, "-s", "-o", str(out), *inputs, f"-Wl,-rpath,{run_path}", *linked))
    for target in objects:
        target.unlink()


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tool, said = Path(command[0]).name, done.stderr.strip()[-2000:]
        raise DeviceError(f"{tool} failed on {_source_of(command)}: {said}")


def _source_of(command: Sequence[str]) -> str:
    sources = [Path(word).name for word in command if word.endswith((".c", ".cpp", ".o"))]
    return ", ".join(sources[:1]) or "its input"
