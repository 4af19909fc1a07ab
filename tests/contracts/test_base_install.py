"""What an installation without extras can do: no torch, and none of what only builds need."""

import subprocess
import sys
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement

# Hides what an extra installs, then runs a command.
PROGRAM = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

HIDDEN = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Hidden())
from pocketlm import main
main(sys.argv[2:])
"""


def hidden_modules() -> set[str]:
    """Return what extras install and the base does not, by the names of their modules."""
    required = [Requirement(text) for text in requires("pocketlm") or ()]
    base = {r.name for r in required if r.marker is None}
    names = {r.name for r in required} - base - {"pocketlm"}
    return {name.replace("-", "_") for name in names}


@pytest.mark.parametrize(
    "command",
    [
        ("fit", "gemma-3-1b", "--device", "phone-12gb"),
        ("inspect", "gemma-3-1b"),
        ("inspect", "pico"),
        ("list", "backends"),
        ("list", "families"),
        ("list", "methods"),
        ("list", "profiles"),
        ("list", "recipes"),
        ("list", "shapes"),
        ("doctor",),
    ],
    ids=" ".join,
)
def test_a_command_works_without_extras(command: tuple[str, ...]) -> None:
    assert ran_without_extras(*command) == (0, "")


def test_eval_says_what_it_needs() -> None:
    code, said = ran_without_extras("eval", "pico", "--text", "book.txt")
    assert code == 2
    assert said.startswith("error: eval needs torch, safetensors, not installed; run: ")


def ran_without_extras(*command: str) -> tuple[int, str]:
    """Return the exit code and what was said on stderr."""
    modules = hidden_modules()
    assert {"torch", "safetensors", "onnx", "executorch", "transformers"} <= modules
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, ",".join(sorted(modules)), *command],
        capture_output=True,
        text=True,
    )
    return ran.returncode, ran.stderr
