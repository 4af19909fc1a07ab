"""What a device is, as far as running a model on it depends on that."""

import re
from dataclasses import dataclass
from typing import Literal

from pocketlm.device_tests.device.shell_numbers import NUMBER

# How far figures can be trusted: a real device or this machine; a whole emulated machine, whose
# kernel accounts for memory truly; or single emulated programs, whose memory is inflated.
Provenance = Literal["real", "host", "qemu-system", "qemu-user"]
# From here on, a fault maps all of a file's folio that is in memory, not 64 KiB of it.
_WHOLE_FOLIOS_SINCE = (6, 18)
EMULATED: tuple[Provenance, ...] = ("qemu-system", "qemu-user")


@dataclass(frozen=True)
class DeviceFacts:
    """One device, at one moment.

    Attributes:
        model: what its maker calls it, or its processor where it does not say.
        system: "Android 16", "Debian GNU/Linux 13", as far as it says; "Linux" at least.
        architecture: as `uname -m` says, "aarch64" or "x86_64".
        cpu_features: of the kernel's names: "asimddp" (dotprod), "i8mm", "avx512_vnni".
        ram_bytes, available_bytes: MemTotal and MemAvailable.
        swap_bytes, free_swap_bytes: 0 where there is none.
        free_bytes: of the disk that jobs go to.
        page_bytes: size of a memory page.
        oom_score_adj: of processes that we start there: below 0 the kernel spares them where it
            would kill an app. None where it cannot be read.
    """

    model: str
    system: str
    kernel: str
    architecture: str
    cores: int
    cpu_features: tuple[str, ...]
    ram_bytes: int
    available_bytes: int
    swap_bytes: int
    free_swap_bytes: int
    free_bytes: int
    page_bytes: int
    oom_score_adj: int | None
    provenance: Provenance

    @property
    def maps_whole_folios(self) -> bool:
        """Whether clean pages depend on how the kernel once cached a file.

        A folio is as large as the reads or writes that brought it into memory, up to 2 MiB.
        """
        version = re.match(rf"({NUMBER})\.({NUMBER})", self.kernel)
        return version is not None and tuple(map(int, version.groups())) >= _WHOLE_FOLIOS_SINCE
