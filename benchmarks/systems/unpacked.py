"""Systems that run what is already there: a stock runner on our bundle, and the checkpoint."""

import sys
from pathlib import Path

from benchmarks.systems import pocketlm
from benchmarks.systems.system import System, Target

_RECIPES = {"onnx-g32": "int4-g32", "onnx-g128": "int4-g128"}


def systems(target: Target) -> list[System]:
    """Return onnxruntime-genai on two bundles, and transformers."""
    ours = {system.name: system for system in pocketlm.systems(target)}
    runners = [_genai(ours[name], recipe) for name, recipe in _RECIPES.items()]
    return [*runners, _transformers(target)]


def _genai(bundle: System, recipe: str) -> System:
    return System(
        name=bundle.name.replace("onnx", "genai"),
        title=f"onnxruntime-genai on our bundle, {recipe}",
        contains="its tokenizer; the build is pocketlm's",
        python=Path(sys.executable),
        worker="benchmarks.workers.genai",
        artifact=bundle.artifact,
        build=bundle.build,
        sources=bundle.sources,
    )


def _transformers(target: Target) -> System:
    return System(
        name="transformers-bf16",
        title="transformers, bfloat16, eager",
        contains="no tokenizer; nothing is built",
        python=Path(sys.executable),
        worker="benchmarks.workers.transformers_eager",
        artifact=target.checkpoint,
        build=(),
        most_rounds=1,
    )
