"""Commands on bundles: inspect, run, chat, bench, verify, lint, export, cache.

They import heavy libraries inside.
"""

from pocketlm.runtime_py.commands.bench import bench
from pocketlm.runtime_py.commands.cache import cache
from pocketlm.runtime_py.commands.chat import chat
from pocketlm.runtime_py.commands.export import export
from pocketlm.runtime_py.commands.inspect_bundle import inspect_bundle
from pocketlm.runtime_py.commands.lint import lint
from pocketlm.runtime_py.commands.run import run
from pocketlm.runtime_py.commands.verify import verify

COMMANDS = (inspect_bundle, run, chat, bench, verify, lint, export, cache)
