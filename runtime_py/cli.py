"""pocketlm inspect, run, chat, verify, lint, export, cache. Commands import heavy libraries."""

from runtime_py.commands.cache import cache
from runtime_py.commands.chat import chat
from runtime_py.commands.export import export
from runtime_py.commands.inspect_bundle import inspect_bundle
from runtime_py.commands.lint import lint
from runtime_py.commands.run import run
from runtime_py.commands.verify import verify

COMMANDS = (inspect_bundle, run, chat, verify, lint, export, cache)
