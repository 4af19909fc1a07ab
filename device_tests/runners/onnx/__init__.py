"""ONNX Runtime on a device: its library is opened by name when the runner starts."""

from pathlib import Path

from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.runners.compilation import (
    C_FLAGS,
    Toolchain,
    compile_native,
    link,
    object_file,
)
from pocketlm.device_tests.runners.device_runner import DeviceRunner
from pocketlm.device_tests.runners.packages import Runtime, Wheel

FOLDER = Path(__file__).parent


def onnxruntime_library(package: Path) -> Path:
    """Return the shared library of ONNX Runtime in its package.

    Raises:
        DeviceError: it is not there.
    """
    found = sorted(package.glob("capi/libonnxruntime.so.*"))
    if not found:
        raise DeviceError(
            f"{package}: this onnxruntime has no shared library; pip install onnxruntime again"
        )
    return found[-1]


def _compile_runner(
    out: Path, tools: Toolchain, runtime: Runtime, run_path: str | None = None
) -> Path:
    library = onnxruntime_library(runtime.package)
    define = f'-DONNXRUNTIME_LIBRARY="{library.name}"'
    objects = compile_native(out, tools)
    objects.append(object_file(out, FOLDER / "engine.c", (tools.c, *C_FLAGS, define)))
    link(out, objects, tools.c, ("-ldl", "-lm"), run_path or str(library.parent))
    return out


RUNNER = DeviceRunner(
    name="onnx",
    distribution="onnxruntime",
    # Exact releases, because a digest is of one file: those that this project is tested with.
    wheels=(
        Wheel(
            "onnxruntime",
            "1.32.0",
            "aarch64",
            "manylinux_2_28_aarch64",
            "3.11",
            "2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c",
            ("onnxruntime/capi/libonnxruntime.so",),
        ),
    ),
    compile=_compile_runner,
    libraries=lambda package: [onnxruntime_library(package)],
    has_libraries=lambda package: True,
)
