"""pocketlm inspect, run, chat, verify, lint, export, cache. Commands import heavy libraries."""

from pocketlm.runtime_py.commands.cache import cache
from pocketlm.runtime_py.commands.chat import chat
from pocketlm.runtime_py.commands.export import export
from pocketlm.runtime_py.commands.inspect_bundle import inspect_bundle
from pocketlm.runtime_py.commands.lint import lint
from pocketlm.runtime_py.commands.run import run
from pocketlm.runtime_py.commands.verify import verify

COMMANDS = (inspect_bundle, run, chat, verify, lint, export, cache)
