"""The systems under test; each module offers `systems(target)`."""

from benchmarks.systems import litert_lm, llama_cpp, pocketlm, unpacked
from benchmarks.systems.system import System, Target


def define(target: Target) -> dict[str, System]:
    """Return every system by name."""
    modules = (pocketlm, llama_cpp, litert_lm, unpacked)
    return {system.name: system for module in modules for system in module.systems(target)}
