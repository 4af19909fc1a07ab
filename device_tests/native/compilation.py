"""Compiles the runners for a processor: sources here, ExecuTorch's libraries from its wheel."""

import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from device_tests.errors import DeviceError

SOURCES = Path(__file__).parent
_COMMON = ("runner.c", "bundle.c", "events.c", "json.c")
# The wheel's libraries without torch; all are needed, because kernels register when they load.
_LIBRARIES = (
    "executorch",
    "executorch_kernels_optimized",
    "executorch_kernels_quantized",
    "executorch_backend_xnnpack",
    "executorch_threadpool",
)
_DEFINES = ("C10_USING_CUSTOM_GENERATED_MACROS", "ET_EVENT_TRACER_ENABLED", "ET_USE_THREADPOOL")
_WARNINGS = ("-Wall", "-Wextra")
# Sums of floats may be taken in any order, which is what lets loops over them be vectorized; but
# infinities mask scores, so they must stay what they are.
_FAST = ("-O3", "-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno")


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


def executorch_package() -> Path:
    """Return the folder of the installed ExecuTorch wheel, with its headers and libraries.

    Raises:
        DeviceError: it is not installed.
    """
    spec = find_spec("executorch")
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in map(Path, places):
        if (place / "lib" / "libexecutorch.so").exists():
            return place
    raise DeviceError(
        "the ExecuTorch runner needs the libraries of its wheel, at least 1.5; "
        "pip install 'pocketlm[build]'"
    )


def compile_executorch_runner(out: Path, tools: Toolchain, package: Path) -> Path:
    """Write an executable that finds its libraries in the wheel that it was compiled with.

    Args:
        out: path of the executable; objects stand beside it while they are made.
        package: folder of an ExecuTorch wheel for the toolchain's processor.

    Raises:
        DeviceError: a compiler fails.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    objects = _compile_common(out.parent, tools)
    include = package / "include"
    flags = (
        "-std=c++17",
        *_WARNINGS,
        *_FAST,
        *(f"-D{name}" for name in _DEFINES),
        # Its headers warn; ours are compiled with warnings.
        *("-isystem", str(include)),
        *("-isystem", str(include / "executorch" / "runtime" / "core" / "portable_type" / "c10")),
    )
    for name in ("engine.cpp", "llama_operators.cpp"):
        target = out.parent / f"{name}.o"
        _run((tools.cpp, *flags, "-c", str(SOURCES / "executorch" / name), "-o", str(target)))
        objects.append(target)
    libraries = package / "lib"
    _run(
        (
            tools.cpp, "-o", str(out), *map(str, objects),
            f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-Wl,--no-as-needed",
            *(f"-l{name}" for name in _LIBRARIES),
        )
    )  # fmt: skip
    for target in objects:
        target.unlink()
    return out


def compile_sampler(out: Path, tools: Toolchain) -> Path:
    """Write the sampler, linked statically.

    Raises:
        DeviceError: the compiler fails.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    source = SOURCES / "sampler" / "sampler.c"
    _run((tools.c, "-std=c99", "-D_GNU_SOURCE", *_WARNINGS, "-O2", "-static", str(source),
          "-o", str(out)))  # fmt: skip
    return out


def _compile_common(folder: Path, tools: Toolchain) -> list[Path]:
    objects = []
    for name in _COMMON:
        target = folder / f"{name}.o"
        source = SOURCES / "common" / name
        _run((tools.c, "-std=c99", "-D_GNU_SOURCE", *_WARNINGS, "-O2", "-c", str(source),
              "-o", str(target)))  # fmt: skip
        objects.append(target)
    return objects


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tool, said = Path(command[0]).name, done.stderr.strip()[-2000:]
        raise DeviceError(f"{tool} failed on {_source_of(command)}: {said}")


def _source_of(command: Sequence[str]) -> str:
    sources = [Path(word).name for word in command if word.endswith((".c", ".cpp", ".o"))]
    return ", ".join(sources[:1]) or "its input"
