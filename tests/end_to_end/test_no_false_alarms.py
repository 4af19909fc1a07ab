"""No sound bundle is called different: 62 of them, over backends, families, recipes, caches and
contexts.

`make corruptions` runs them all; two of them run with all tests elsewhere (`test_corruptions.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

pytest.importorskip("executorch")

from pocketlm.edge_build.build import build
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.runtime_py.bundle import open_bundle
from pocketlm.runtime_py.kv_choice import KvName
from pocketlm.runtime_py.verification import verify

FAMILIES = ("gemma3_text", "gemma2", "qwen3")
RECIPES = ("none", "int8-channel", "int4-channel", "int4-g32")
KV: tuple[KvName, ...] = ("float32", "int8")
# Context and chunk: the table reaches the end of the first, a case of its own that of the second.
SIZES = ((64, 5), (120, 16))


@dataclass(frozen=True)
class Sound:
    """What a sound bundle is built with."""

    backend: str
    family: str
    recipe: str
    kv: KvName
    sizes: tuple[int, int]
    local_cache: str | None = None

    def __str__(self) -> str:
        sizes = f"{self.sizes[0]} in chunks of {self.sizes[1]}"
        parts = (self.backend, self.family, self.recipe, self.kv, sizes, self.local_cache)
        return ", ".join(filter(None, parts))


ONNX = (
    *(Sound("onnx", *case, "windowed") for case in product(FAMILIES, RECIPES, KV, SIZES)),
    *(Sound("onnx", family, "int4-g32", "float32", SIZES[0], "ring") for family in FAMILIES[:2]),
)
# Lowering takes longer: each family once with each recipe, in turns the rest.
EXECUTORCH = tuple(
    Sound("executorch", family, recipe, KV[(row + column) % 2], SIZES[(row + column // 2) % 2])
    for column, family in enumerate(FAMILIES)
    for row, recipe in enumerate(RECIPES)
)

assert len(ONNX) == 50
assert len(EXECUTORCH) == 12


@pytest.mark.corruptions
@pytest.mark.parametrize("sound", [*ONNX, *EXECUTORCH], ids=str)
def test_a_sound_bundle_is_verified(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, sound: Sound
) -> None:
    options = {"onnx": {"local-cache": sound.local_cache}} if sound.local_cache else {}
    spec = BuildSpec(
        tiny_checkpoint(sound.family),
        tmp_path / "tiny",
        recipe=sound.recipe,
        kv=sound.kv,
        backends=(sound.backend,),
        context_length=sound.sizes[0],
        chunk=sound.sizes[1],
        backend_options=options,
    )
    build(spec)
    result = verify(open_bundle(spec.out), sound.backend, threads=1)
    assert result.mismatches == ()
    assert result.strict.state == ("not needed" if sound.recipe == "none" else "passed")
