"""Repeating lowered layers: the walk over kinds, the arena, and equality with lowering them all."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from torch.export import ExportedProgram

pytest.importorskip("executorch")

from pocketlm.edge_build.backends.executorch.inspection import inspect_program
from pocketlm.edge_build.backends.executorch.unroll.arena import ALIGNMENT, Lifetime, place
from pocketlm.edge_build.backends.executorch.unroll.fused_passes import fused_passes
from pocketlm.edge_build.backends.executorch.unroll.template import covering_walk, make_template
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.lowered_cache import NO_CACHE
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.runtime_py.kv_choice import KvName
from tests.artifacts import (
    CHUNK,
    CONTEXT,
    REPEATED,
    Lowered,
    executorch_source,
    logits_after,
    lowered_executorch,
    random_tokens,
    write,
)
from tests.conftest import made_once


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=40))
@example(list("ababbac"))  # c has no follower: it must come last
def test_a_walk_has_the_ends_and_all_neighbours_of_what_it_stands_for(kinds: list[str]) -> None:
    walk = covering_walk(kinds)
    assert walk[0] == kinds[0]
    assert walk[-1] == kinds[-1]
    assert set(pairwise(walk)) == set(pairwise(kinds))
    assert len(walk) <= len(kinds)


def test_a_repeating_pattern_needs_one_period() -> None:
    five_local_one_global = [0, *"LLLLG" + "LLLLLG" * 4 + "L"]
    assert covering_walk(five_local_one_global) == [0, *"LLGL"]
    assert covering_walk([0, *"F" * 35]) == [0, *"FF"]


@given(
    st.lists(
        st.tuples(st.integers(1, 500), st.integers(0, 20), st.integers(0, 20)).map(
            lambda t: Lifetime(t[0], min(t[1:]), max(t[1:]))
        ),
        max_size=30,
    )
)
def test_values_alive_together_never_share_memory(lifetimes: list[Lifetime]) -> None:
    offsets, total = place(lifetimes)
    for i, one in enumerate(lifetimes):
        assert offsets[i] % ALIGNMENT == 0
        assert offsets[i] + one.size_bytes <= total
        for j, other in enumerate(lifetimes[:i]):
            if one.first <= other.last and other.first <= one.last:
                apart = (
                    offsets[i] + one.size_bytes <= offsets[j]
                    or offsets[j] + other.size_bytes <= offsets[i]
                )
                assert apart, f"{one} and {other} overlap"


def test_values_that_follow_each_other_share_memory() -> None:
    chain = [Lifetime(64, step, step + 1) for step in range(10)]
    assert place(chain)[1] == 2 * 64


BACKEND = "executorch"
UNROLL_OFF = {"unroll": "off"}


# Over many int8 caches a value soon lies on a rounding edge: tests of tolerances have fewer.
ALTERNATING = ("gemma3_text", "int4-g32", "int8")


# A family each. One alternates between kinds of layers, one repeats local and one global ones. One
# has int8 caches, rings and linear ones. Recipes have groups, have none, and are none.
@pytest.mark.parametrize(
    ("family", "recipe", "kv", "layers"),
    [(*ALTERNATING, "LGLGLG"), *((*case, layers) for case, layers in REPEATED.items())],
)
def test_repeated_layers_equal_layers_lowered_one_by_one(
    family: str, recipe: str, kv: KvName, layers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeated = lowered_executorch(family, recipe, kv=kv, layers=layers)
    source, folder = repeated.source, repeated.folder
    assert make_template(source).source.config.num_layers < source.config.num_layers

    def lower_whole(folder: Path) -> None:
        decompose = Mock(side_effect=ExportedProgram.run_decompositions)
        monkeypatch.setattr(ExportedProgram, "run_decompositions", lambda *args: decompose(*args))
        # executorch's own passes come to the same in twice the time: test_executorch_lowering.py.
        with fused_passes():
            write(BACKEND, replace(source, options=UNROLL_OFF), folder / "bundle")
        # Each time takes a sixth of the lowering: the graph is traced in what needs none.
        assert decompose.call_count == 1

    spec = BuildSpec(
        folder.with_name("checkpoint"),
        Path("whole"),
        recipe=recipe,
        backends=(BACKEND,),
        kv=kv,
        chunk=CHUNK,
        context_length=CONTEXT,
        backend_options={BACKEND: UNROLL_OFF},
    )
    whole = replace(repeated, folder=made_once(spec, lower_whole) / "bundle")

    tokens = random_tokens(40)
    splits = [5, 1, 3, 5, 5, 1, 5, 5, 5, 5]
    expected = logits_after(whole.load(), tokens, splits)
    # The same kernels on the same numbers: not one bit may differ.
    assert np.array_equal(logits_after(repeated.load(), tokens, splits), expected)
    # Of the model, not of its template.
    assert _method(repeated, "get_n_layers") == [len(layers)]
    report, expected_report = (inspect_program(b.model_file) for b in (repeated, whole))
    assert report.delegates == expected_report.delegates
    assert report.caches == expected_report.caches
    assert report.delegate_data_bytes == expected_report.delegate_data_bytes
    # Some values more or fewer, 2,560 bytes with six layers; but both have a tied table once: its
    # codes take 16 KB.
    sizes = [built.model_file.stat().st_size for built in (repeated, whole)]
    assert abs(sizes[0] - sizes[1]) < 4_000
    # Kernels may read a little past the end of each memory: activations, global caches, rings.
    assert report.arena_bytes <= expected_report.arena_bytes + 3 * 64


def _method(built: Lowered, name: str) -> object:
    from executorch.extension.pybindings.portable_lib import _load_for_executorch

    return _load_for_executorch(str(built.model_file)).run_method(name, ())


def test_constants_in_another_form_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from pocketlm.edge_build.backends.executorch.unroll import lowered_template

    _, source, _ = executorch_source("qwen3", "none", "G")
    real = lowered_template.constant_bytes
    monkeypatch.setattr(lowered_template, "constant_bytes", lambda *args: real(*args)[::-1])
    with pytest.raises(BuildError, match=r"does not hold .* constants in the expected form"):
        write(BACKEND, replace(source, lowered=NO_CACHE), tmp_path / "bundle")
