"""pocketlm fit, devices, push and profile. Heavy libraries are imported inside the commands."""

from device_tests.commands.devices import devices
from device_tests.commands.fit import fit
from device_tests.commands.profile_bundle import profile_bundle
from device_tests.commands.push import push

COMMANDS = (fit, devices, push, profile_bundle)
