"""Compiles the runners for a processor: sources here, libraries from the runtimes' wheels."""

import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.runners.packages import Runtime, onnxruntime_library

SOURCES = Path(__file__).parent
# The folder that the runner is in, to the loader.
BESIDE = "$ORIGIN"
# The wheel's libraries without torch; all are needed, because kernels register when they load.
EXECUTORCH_LIBRARIES = (
    "executorch",
    "executorch_kernels_optimized",
    "executorch_kernels_quantized",
    "executorch_backend_xnnpack",
    "executorch_threadpool",
)
_COMMON = ("runner.c", "bundle.c", "events.c", "json.c", "phases.c")
_DEFINES = ("C10_USING_CUSTOM_GENERATED_MACROS", "ET_EVENT_TRACER_ENABLED", "ET_USE_THREADPOOL")
_WARNINGS = ("-Wall", "-Wextra")
_C = ("-std=c11", "-D_GNU_SOURCE", *_WARNINGS, "-O2")
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


def compile_executorch_runner(
    out: Path, tools: Toolchain, runtime: Runtime, run_path: str | None = None
) -> Path:
    """Write an executable linked with ExecuTorch's libraries.

    Args:
        out: path of the executable; objects stand beside it while they are made.
        runtime: ExecuTorch for the toolchain's processor.
        run_path: where the runner looks for libraries, such as BESIDE; None is where they are now.

    Raises:
        DeviceError: a compiler fails.
    """
    include, libraries = runtime.package / "include", runtime.package / "lib"
    flags = (
        "-std=c++17",
        *_WARNINGS,
        *_FAST,
        *(f"-D{name}" for name in _DEFINES),
        f'-DEXECUTORCH_VERSION="{runtime.version}"',
        # Its headers warn; ours are compiled with warnings.
        *("-isystem", str(include)),
        *("-isystem", str(include / "executorch" / "runtime" / "core" / "portable_type" / "c10")),
    )
    objects = _compile_common(out, tools)
    for name in ("engine.cpp", "llama_operators.cpp", "rows.cpp"):
        objects.append(_object(out, SOURCES / "executorch" / name, (tools.cpp, *flags)))
    linked = (f"-L{libraries}", *(f"-l{name}" for name in EXECUTORCH_LIBRARIES))
    _link(out, objects, tools.cpp, ("-Wl,--no-as-needed", *linked), run_path or str(libraries))
    return out


def compile_onnx_runner(
    out: Path, tools: Toolchain, runtime: Runtime, run_path: str | None = None
) -> Path:
    """Write an executable that opens ONNX Runtime's library when it starts.

    Args:
        out: path of the executable; objects stand beside it while they are made.
        runtime: ONNX Runtime for the toolchain's processor.
        run_path: where the runner looks for the library, such as BESIDE; None is where it is now.

    Raises:
        DeviceError: the compiler fails, or the runtime has no shared library.
    """
    library = onnxruntime_library(runtime.package)
    define = f'-DONNXRUNTIME_LIBRARY="{library.name}"'
    objects = _compile_common(out, tools)
    objects.append(_object(out, SOURCES / "onnx" / "engine.c", (tools.c, *_C, define)))
    _link(out, objects, tools.c, ("-ldl", "-lm"), run_path or str(library.parent))
    return out


COMPILE_RUNNER = {"executorch": compile_executorch_runner, "onnx": compile_onnx_runner}


def compile_sampler(out: Path, tools: Toolchain) -> Path:
    """Write the sampler, linked statically.

    Raises:
        DeviceError: the compiler fails.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    source = SOURCES / "sampler" / "sampler.c"
    _run((tools.c, *_C, "-static", "-s", str(source), "-o", str(out)))
    return out


def _compile_common(out: Path, tools: Toolchain) -> list[Path]:
    out.parent.mkdir(parents=True, exist_ok=True)
    return [_object(out, SOURCES / "common" / name, (tools.c, *_C)) for name in _COMMON]


def _object(out: Path, source: Path, compiler: Sequence[str]) -> Path:
    target = out.with_name(f"{out.name}.{source.name}.o")
    _run((*compiler, "-c", str(source), "-o", str(target)))
    return target


def _link(
    out: Path, objects: Sequence[Path], compiler: str, linked: Sequence[str], run_path: str
) -> None:
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
