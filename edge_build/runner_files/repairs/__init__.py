"""The repairs of tokenizer files: one file each, found by file name."""

from importlib import import_module
from pathlib import Path

from pocketlm.edge_build.runner_files.tokenizer_repair import Repair

NAMES = tuple(sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem != "__init__"))


def load(name: str) -> Repair:
    """Return the repair of a file."""
    assert name in NAMES, f"no repair {name}; there are {', '.join(NAMES)}"
    repair: Repair = import_module(f"{__name__}.{name}").REPAIR
    return repair
