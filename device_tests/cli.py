"""pocketlm fit, devices, push, profile, jobs. Heavy libraries load inside the commands."""

from pocketlm.device_tests.commands.devices import devices
from pocketlm.device_tests.commands.fit import fit
from pocketlm.device_tests.commands.jobs import jobs
from pocketlm.device_tests.commands.profile_bundle import profile_bundle
from pocketlm.device_tests.commands.push import push

COMMANDS = (fit, devices, push, profile_bundle, jobs)
