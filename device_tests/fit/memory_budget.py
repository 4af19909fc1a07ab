"""How much memory a device has for a model: from a profile of a class of phones, or asked."""

import difflib
import json
from dataclasses import dataclass
from importlib.resources import files

from pocketlm.device_tests.device.facts import DeviceFacts
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.quantities import size_text

_FILE = "device_profiles.json"
# Android kills background apps for the foreground app, until that holds so much of the RAM: in
# published runs, 39 % of it passes and 56 % is killed. A quarter causes no memory pressure.
_ANDROID_EASY_RATIO, _ANDROID_MOST_RATIO = 0.25, 0.40


@dataclass(frozen=True)
class MemoryBudget:
    """What a device has for a model.

    Attributes:
        name: of a profile, or of a device as it is now.
        evicts: whether the system kills other apps to free memory, as Android does.
    """

    name: str
    ram_bytes: int
    available_bytes: int
    swap_bytes: int
    evicts: bool
    architecture: str = "aarch64"

    @property
    def easy_bytes(self) -> int:
        """Dirty memory that causes no memory pressure."""
        if self.evicts:
            return int(_ANDROID_EASY_RATIO * self.ram_bytes)
        return self.available_bytes

    @property
    def most_bytes(self) -> int:
        """Dirty memory above which the run is killed."""
        if self.evicts:
            return max(int(_ANDROID_MOST_RATIO * self.ram_bytes), self.available_bytes)
        # Swap is mostly compressed RAM, and quantized weights do not compress: a model as large as
        # what was available was killed beside 128 MiB of swap.
        return self.available_bytes

    @property
    def limits(self) -> str:
        """Where the two limits come from."""
        if self.evicts:
            return (
                f"{_ANDROID_EASY_RATIO:.0%} and {_ANDROID_MOST_RATIO:.0%} of "
                f"{size_text(self.ram_bytes)} RAM: Android kills background apps for the "
                "foreground app"
            )
        swap = ", without swap, because weights do not compress" if self.swap_bytes else ""
        return f"what is available{swap}: the system kills no other app"


def profiles() -> tuple[MemoryBudget, ...]:
    """Return the classes of phones, smallest first."""
    document = json.loads(
        files("pocketlm.device_tests.fit").joinpath(_FILE).read_text(encoding="utf-8")
    )
    return tuple(MemoryBudget(**profile, evicts=True) for profile in document["profiles"])


NAMES = tuple(budget.name for budget in profiles())


def device_budget(name: str, facts: DeviceFacts) -> MemoryBudget:
    """Return the budget of a device as it is now."""
    return MemoryBudget(
        name=name,
        ram_bytes=facts.ram_bytes,
        available_bytes=facts.available_bytes,
        swap_bytes=facts.free_swap_bytes,
        evicts=facts.system.startswith("Android"),
        architecture=facts.architecture,
    )


def find_budget(name: str) -> MemoryBudget:
    """Return the budget of a profile, or of a device that answers now.

    Raises:
        DeviceError: neither a profile nor a device; or the device does not answer.
    """
    known = {budget.name: budget for budget in profiles()}
    if name in known:
        return known[name]
    from pocketlm.device_tests.device.targets import KINDS, open_target

    if name.partition(":")[0] not in KINDS:
        near = difflib.get_close_matches(name, known, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise DeviceError(
            f"--device {name}: there is no such profile{hint}; profiles: {', '.join(known)}; "
            "devices: adb:SERIAL, ssh:HOST, host"
        )
    target = open_target(name)
    try:
        return device_budget(target.name, target.facts())
    finally:
        target.close()
