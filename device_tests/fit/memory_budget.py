"""Where the room for a model comes from: a profile of a class of phones, or a device as it is."""

import difflib
import json
from importlib.resources import files

from device_tests.device.facts import DeviceFacts
from device_tests.errors import DeviceError
from device_tests.fit.fitting import Room

_FILE = "device_profiles.json"


def profiles() -> tuple[Room, ...]:
    """Return the classes of phones, smallest first."""
    document = json.loads(files("device_tests.fit").joinpath(_FILE).read_text(encoding="utf-8"))
    return tuple(Room(**profile, evicts=True) for profile in document["profiles"])


NAMES = tuple(room.name for room in profiles())


def room_of(name: str, facts: DeviceFacts) -> Room:
    """Return what a device has now."""
    return Room(
        name=name,
        ram_bytes=facts.ram_bytes,
        available_bytes=facts.available_bytes,
        swap_bytes=facts.free_swap_bytes,
        evicts=facts.system.startswith("Android"),
        architecture=facts.architecture,
    )


def room_called(name: str) -> Room:
    """Return the room of a profile, or of a device that answers now.

    Raises:
        DeviceError: neither a profile nor a device; or the device does not answer.
    """
    known = {room.name: room for room in profiles()}
    if name in known:
        return known[name]
    from device_tests.device.targets import KINDS, open_target

    if name.partition(":")[0] not in KINDS:
        near = difflib.get_close_matches(name, known, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise DeviceError(
            f"--device {name}: there is no such profile{hint}; profiles: {', '.join(known)}; "
            "devices: adb:SERIAL, ssh:HOST, host"
        )
    target = open_target(name)
    try:
        return room_of(target.name, target.facts())
    finally:
        target.close()
