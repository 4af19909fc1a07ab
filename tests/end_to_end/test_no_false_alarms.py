"""No sound bundle is called different: 50 of them, over families, recipes, caches and contexts.

`make corruptions` runs them all; two of them run with all tests elsewhere (`test_corruptions.py`).
"""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from edge_build.build import build
from edge_build.kv_cache import KvPrecision
from edge_build.spec import BuildSpec
from runtime_py.bundle import open_bundle
from runtime_py.verification import verify

FAMILIES = ("gemma3_text", "gemma2", "qwen3")
RECIPES = ("none", "int8-channel", "int4-channel", "int4-g32")
KV: tuple[KvPrecision, ...] = ("float32", "int8")
# Context and chunk: the table reaches the end of the first, a case of its own that of the second.
SIZES = ((64, 5), (120, 16))
WINDOWED = [(*case, "windowed") for case in product(FAMILIES, RECIPES, KV, SIZES)]
RINGS = [(family, "int4-g32", "float32", SIZES[0], "ring") for family in FAMILIES[:2]]

assert len(WINDOWED) + len(RINGS) == 50


@pytest.mark.corruptions
@pytest.mark.parametrize(("family", "recipe", "kv", "sizes", "local_cache"), [*WINDOWED, *RINGS])
def test_a_sound_bundle_is_verified(
    tiny_checkpoint: Callable[[str], Path],
    tmp_path: Path,
    family: str,
    recipe: str,
    kv: KvPrecision,
    sizes: tuple[int, int],
    local_cache: str,
) -> None:
    spec = BuildSpec(
        tiny_checkpoint(family),
        tmp_path / "tiny",
        recipe=recipe,
        kv=kv,
        backends=("onnx",),
        context_length=sizes[0],
        chunk=sizes[1],
        backend_options={"onnx": {"local-cache": local_cache}},
    )
    build(spec)
    verdict = verify(open_bundle(spec.out), "onnx", threads=1)
    assert verdict.mismatches == ()
    assert verdict.strict.state == ("not needed" if recipe == "none" else "passed")
