"""A kind of cache is one file: one in another folder plans, inspects, predicts and goes back."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from pocketlm.edge_build import backends
from pocketlm.edge_build.backend import Backend
from pocketlm.edge_build.backends.executorch.attention import CachedAttention
from pocketlm.edge_build.kv_cache import plan_caches
from pocketlm.edge_build.planned_bundle import BuildChoices, plan_bundle
from pocketlm.models import shapes
from pocketlm.runtime_py import caches
from pocketlm.runtime_py.commands.inspect_bundle import inspect_bundle
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.inspection import cache_parts
from pocketlm.runtime_py.manifest import CacheEntry
from pocketlm.runtime_py.memory_inputs import MemoryInputs
from pocketlm.runtime_py.memory_model import RunChoices
from pocketlm.runtime_py.memory_prediction import full_context, predict
from pocketlm.runtime_py.session import open_session
from tests.small_layers import SMALL_LAYER

# Rings of a power of two, as some runtimes want them.
DOUBLED = """
from dataclasses import dataclass
from typing import ClassVar

from pocketlm.runtime_py.cache_layout import CacheLayout


@dataclass(frozen=True)
class Doubled(CacheLayout):
    overwrites: ClassVar[bool] = True

    @staticmethod
    def slots(window, chunk, context_length):
        return min(context_length, 1 << (window + chunk - 2).bit_length())

    def slot_of(self, position, newest):
        return position % self.capacity

    def position_in(self, slot, newest):
        return newest - (newest - slot) % self.capacity

    @property
    def rewind_tokens(self):
        return self.capacity - self.window + 1

    def earliest_rewind(self, length):
        return 0 if length <= self.capacity else length - self.rewind_tokens


KIND = Doubled
"""
SHAPE = "gemma-3-1b"
WINDOW, CHUNK, CONTEXT = 512, 128, 4096


@pytest.fixture
def doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Put one file more on the package's path."""
    folder = tmp_path / "kinds"
    folder.mkdir()
    (folder / "doubled.py").write_text(DOUBLED)
    monkeypatch.setattr(caches, "__path__", [*caches.__path__, str(folder)])
    yield "doubled"
    sys.modules.pop("pocketlm.runtime_py.caches.doubled", None)
    vars(caches).pop("doubled", None)


@pytest.fixture
def planned(doubled: str, monkeypatch: pytest.MonkeyPatch) -> MemoryInputs:
    """What is planned with a backend that keeps local layers so."""
    load = backends.load

    def keeping(name: str) -> Backend:
        return replace(
            load(name),
            plan_artifact=lambda config, plan, options: RunChoices(
                plan.with_local(doubled).layers, {}, config.vocab_size
            ),
        )

    monkeypatch.setattr(backends, "load", keeping)
    choices = BuildChoices("int4-g32", CONTEXT, CHUNK, backends=("onnx",))
    return plan_bundle(SHAPE, shapes.load(SHAPE).config, choices)


def test_it_plans(planned: MemoryInputs) -> None:
    entry = planned.backends["onnx"]
    found = {(cache.kind, cache.capacity, cache.window) for cache in entry.caches}
    assert found == {("doubled", 1024, WINDOW), ("linear", CONTEXT, None)}
    # 22 local layers of 1,024 slots, 4 global ones; one head of 256 channels in float32.
    assert (
        sum(cache.size_bytes for cache in entry.caches) == (22 * 1024 + 4 * CONTEXT) * 2 * 256 * 4
    )
    assert caches.rewind_tokens(cache.layout for cache in entry.caches) == 1024 - WINDOW + 1
    local = next(part for part in cache_parts("onnx", entry.caches) if part.kind == "doubled")
    assert (local.layers, local.size_bytes) == (22, 22 * 1024 * 2 * 256 * 4)


def test_a_prediction_counts_its_slots_among_those_that_are_overwritten(
    planned: MemoryInputs,
) -> None:
    found = predict(planned, "onnx", full_context(planned), "aarch64")
    assert found.of("KV cache, rings") == 22 * 1024 * 2 * 256 * 4
    assert found.of("KV cache, global") == 4 * CONTEXT * 2 * 256 * 4


@pytest.fixture
def bundle(doubled: str, fake_bundle: Any) -> Any:
    """A bundle whose caches have sixteen slots for a window of eight."""
    local, cache = CacheEntry(doubled, 16, 8, 1, 4), CacheEntry(caches.GLOBAL, 64, None, 1, 4)
    entries = fake_bundle.manifest().backends
    kept = {name: replace(e, caches=(local, local, cache)) for name, e in entries.items()}
    fake_bundle.write_manifest(backends=kept)
    return fake_bundle


def test_it_is_inspected(bundle: Any) -> None:
    shown = CliRunner().invoke(inspect_bundle, [str(bundle.folder)])
    assert shown.exit_code == 0, shown.output
    assert any("doubled" in line and "16" in line for line in shown.output.splitlines())


def test_a_session_goes_back_as_far_as_it_says(bundle: Any) -> None:
    session = open_session(bundle.open(), "onnx")
    session.prefill([7] * 30)
    with pytest.raises(RunError, match=r"a cache of 16 slots .* go back to 21 or later, or to 0"):
        session.rewind(20)
    session.rewind(21)
    assert session.position == 21


def test_executorch_traces_its_arithmetic(doubled: str) -> None:
    layers = (replace(SMALL_LAYER, window=5), SMALL_LAYER)
    config = replace(shapes.load(SHAPE).config, layers=layers)
    plan = plan_caches(config, 40, 4).with_local(doubled)
    layout = plan.layers[0].layout
    assert layout.capacity == 8
    step = CachedAttention(config, plan).step(3, torch.tensor([17]))
    assert step.slots[layout, 1].tolist() == [[1, 2, 3]]
    for row, query in zip(step.masks[layout], range(17, 20), strict=True):
        assert (row == 0).nonzero().flatten().tolist() == layout.visible_slots(query, 19)


def test_without_its_file_a_bundle_is_refused(bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "__path__", list(caches.__path__)[:1])
    with pytest.raises(RunError, match="expected one of linear, ring, windowed, found 'doubled'"):
        bundle.open()
