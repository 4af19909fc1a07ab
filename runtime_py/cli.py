"""pocketlm inspect, run, chat and verify. Heavy libraries are imported inside the commands."""

from runtime_py.commands.chat import chat
from runtime_py.commands.inspect_bundle import inspect_bundle
from runtime_py.commands.run import run
from runtime_py.commands.verify import verify

COMMANDS = (inspect_bundle, run, chat, verify)
