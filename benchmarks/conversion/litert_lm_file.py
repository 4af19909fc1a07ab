"""Converts a checkpoint to a .litertlm file with litert-torch, as its exporter does by default.

Needs about 15 GB of memory for a model of 1 B parameters.
"""

import argparse
import importlib
import importlib.util
import shutil
import sys
import tempfile
import types
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path

# Blocks of 32 weights to a scale, and one scale to an output channel; activations int8 per token.
RECIPES = {"g32": "dynamic_wi4b32_afp32", "channel": "dynamic_wi4c_afp32"}
# One length only: its prompt is cut into as few calls as the benchmark's prompts allow.
_PREFILL_LENGTH = 512


def convert(checkpoint: Path, out: Path, recipe: str, context_length: int) -> None:
    """Write the file.

    Raises:
        SystemExit: the exporter wrote none.
    """
    with _schema_provided():
        from litert_torch.generative.export_hf import export

    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        export.export(
            model=str(checkpoint),
            output_dir=folder,
            prefill_lengths=[_PREFILL_LENGTH],
            cache_length=context_length,
            quantization_recipe=RECIPES[recipe],
        )
        written = sorted(Path(folder).rglob("*.litertlm"))
        if len(written) != 1:
            raise SystemExit(f"{checkpoint}: litert-torch wrote {len(written)} .litertlm files")
        shutil.move(written[0], out)


@contextmanager
def _schema_provided() -> Iterator[None]:
    """Give litert-torch 0.10 the one module of tensorflow that it imports without asking for it.

    ai-edge-litert, which it does ask for, has the same generated module.
    """
    if importlib.util.find_spec("tensorflow") is not None:
        yield
        return
    schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    names = ("tensorflow", "tensorflow.lite", "tensorflow.lite.python")
    for name in names:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__spec__ = ModuleSpec(name, None)
    sys.modules[names[-1]].schema_py_generated = schema  # type: ignore[attr-defined]
    try:
        yield
    finally:
        # Left in place they would make torch believe that tensorflow is installed.
        for name in names:
            del sys.modules[name]


def main() -> None:
    """Read the command line and convert."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--recipe", choices=sorted(RECIPES), required=True)
    parser.add_argument("--context", type=int, required=True)
    arguments = parser.parse_args()
    convert(arguments.checkpoint, arguments.out, arguments.recipe, arguments.context)


if __name__ == "__main__":
    main()
