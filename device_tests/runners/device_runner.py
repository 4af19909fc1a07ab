"""What a backend's folder of runners must offer: one constant, RUNNER, found by folder name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pocketlm.device_tests.runners.compilation import Toolchain
from pocketlm.device_tests.runners.packages import Runtime, Wheel


class CompileRunner(Protocol):
    def __call__(
        self, out: Path, tools: Toolchain, runtime: Runtime, run_path: str | None = None
    ) -> Path:
        """Write the executable `out`; objects stand beside it while they are made.

        Args:
            runtime: for the toolchain's processor.
            run_path: where the runner looks for libraries, such as BESIDE; None is where they are.

        Raises:
            DeviceError: a compiler fails, or the runtime has no library.
        """
        ...


@dataclass(frozen=True)
class DeviceRunner:
    """How one backend's bundles run on a device.

    Attributes:
        distribution: of the runtime; its Python package has the same name.
        wheels: recorded ones of other processors.
        compile: sources and libraries → the runner.
        libraries: the runtime's package → the files that lie beside the runner.
        has_libraries: whether an installed package has what C and C++ link with.
        first_release: that has them, as an error says it.
    """

    name: str
    distribution: str
    wheels: tuple[Wheel, ...]
    compile: CompileRunner
    libraries: Callable[[Path], list[Path]]
    has_libraries: Callable[[Path], bool]
    first_release: str = ""
