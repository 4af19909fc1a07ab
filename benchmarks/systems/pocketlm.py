"""Our own bundles, one backend and recipe each."""

import sys
from pathlib import Path

from benchmarks.systems.system import ROOT, System, Target

_TITLES = {"executorch": "ExecuTorch", "onnx": "ONNX Runtime"}
_RECIPES = {"g32": "int4-g32", "g128": "int4-g128", "channel": "int4-channel"}
_CACHES = {"": "float32", "-kv8": "int8"}


def systems(target: Target) -> list[System]:
    """Return a system for every backend, recipe and type of cache."""
    return [
        _system(target, backend, recipe, cache)
        for backend in _TITLES
        for recipe in _RECIPES
        for cache in _CACHES
    ]


def _system(target: Target, backend: str, recipe: str, cache: str) -> System:
    name = f"{backend}-{recipe}{cache}"
    artifact = target.artifact(f"{name}.{target.context_length}")
    command = [
        sys.executable, "-m", "pocketlm", "build", str(target.checkpoint), "--out", str(artifact),
        "--backend", backend, "--recipe", _RECIPES[recipe],
        "--context", str(target.context_length),
    ]  # fmt: skip
    if cache:
        command += ["--kv", _CACHES[cache]]
    return System(
        name=name,
        title=f"pocketlm {_TITLES[backend]}, {_RECIPES[recipe]}, {_CACHES[cache]} cache",
        contains="no tokenizer; logits of the last token copied out, greedy id by NumPy",
        python=Path(sys.executable),
        worker="benchmarks.workers.pocketlm_bundle",
        artifact=artifact,
        build=(tuple(command),),
        sources=(ROOT / "pocketlm" / "cli.py", ROOT / "models", ROOT / "edge_build"),
        settings={"backend": backend},
    )
