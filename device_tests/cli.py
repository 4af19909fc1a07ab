"""pocketlm fit, devices, push, profile, jobs. Heavy libraries load inside the commands."""

from device_tests.commands.devices import devices
from device_tests.commands.fit import fit
from device_tests.commands.jobs import jobs
from device_tests.commands.profile_bundle import profile_bundle
from device_tests.commands.push import push

COMMANDS = (fit, devices, push, profile_bundle, jobs)
