"""ExecuTorch on a device: linked with the wheel's libraries, and operators of our own."""

from pathlib import Path

from pocketlm.device_tests.runners.compilation import (
    WARNINGS,
    Toolchain,
    compile_native,
    link,
    object_file,
)
from pocketlm.device_tests.runners.device_runner import DeviceRunner
from pocketlm.device_tests.runners.packages import Runtime, Wheel

FOLDER = Path(__file__).parent
# The wheel's libraries without torch; all are needed, because kernels register when they load.
LIBRARIES = (
    "executorch",
    "executorch_kernels_optimized",
    "executorch_kernels_quantized",
    "executorch_backend_xnnpack",
    "executorch_threadpool",
)
_DEFINES = ("C10_USING_CUSTOM_GENERATED_MACROS", "ET_EVENT_TRACER_ENABLED", "ET_USE_THREADPOOL")
# Sums of floats may be taken in any order, which is what lets loops over them be vectorized; but
# infinities mask scores, so they must stay what they are.
_FAST = ("-O3", "-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno")


def _compile_runner(
    out: Path, tools: Toolchain, runtime: Runtime, run_path: str | None = None
) -> Path:
    include, libraries = runtime.package / "include", runtime.package / "lib"
    flags = (
        "-std=c++17",
        *WARNINGS,
        *_FAST,
        *(f"-D{name}" for name in _DEFINES),
        f'-DEXECUTORCH_VERSION="{runtime.version}"',
        # Its headers warn; ours are compiled with warnings.
        *("-isystem", str(include)),
        *("-isystem", str(include / "executorch" / "runtime" / "core" / "portable_type" / "c10")),
    )
    objects = compile_native(out, tools)
    for name in ("engine.cpp", "llama_operators.cpp", "rows.cpp"):
        objects.append(object_file(out, FOLDER / name, (tools.cpp, *flags)))
    linked = (f"-L{libraries}", *(f"-l{name}" for name in LIBRARIES))
    link(out, objects, tools.cpp, ("-Wl,--no-as-needed", *linked), run_path or str(libraries))
    return out


def _libraries(package: Path) -> list[Path]:
    return [package / "lib" / f"lib{name}.so" for name in LIBRARIES]


RUNNER = DeviceRunner(
    name="executorch",
    distribution="executorch",
    # Exact releases, because a digest is of one file: those that this project is tested with.
    wheels=(
        Wheel(
            "executorch",
            "1.5.1",
            "aarch64",
            "manylinux_2_28_aarch64",
            "3.11",
            "8ee02348a3ea80ddf770822911ebf78da616b73afce0fbaaa79f23311c88c66a",
            ("executorch/lib/", "executorch/include/"),
        ),
    ),
    compile=_compile_runner,
    libraries=_libraries,
    has_libraries=lambda package: (package / "lib" / "libexecutorch.so").exists(),
    first_release=", of ExecuTorch at least 1.5",
)
