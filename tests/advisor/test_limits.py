"""Memory on the device, as `fit` and `inspect` predict it, against what the user allows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pocketlm.advisor.limits import Limits
from pocketlm.device_tests.fit.memory_budget import MemoryBudget
from pocketlm.edge_build.planned_bundle import BuildChoices, plan_bundle
from pocketlm.models.checkpoint import open_checkpoint
from pocketlm.runtime_py.bundle import read_bundle
from pocketlm.runtime_py.memory_inputs import MemoryInputs
from pocketlm.runtime_py.memory_prediction import full_context, predict
from tests.advisor.conftest import Resumed


@pytest.fixture
def inputs(tiny_checkpoint: Callable[[str], Path]) -> MemoryInputs:
    config = open_checkpoint(tiny_checkpoint("gemma3_text")).config
    return plan_bundle("tiny", config, BuildChoices("int4-g32"))


def budget(ram_bytes: int, available_bytes: int) -> MemoryBudget:
    return MemoryBudget("phone", ram_bytes, available_bytes, 0, evicts=True)


def test_without_a_limit_everything_fits(inputs: MemoryInputs) -> None:
    memory = Limits().compare(inputs, "onnx")
    prediction = predict(inputs, "onnx", full_context(inputs), "aarch64")
    assert (memory.peak_bytes, memory.dirty_bytes) == (
        prediction.peak_bytes,
        prediction.dirty_bytes,
    )
    assert (memory.status, memory.reason) == ("fits", "")
    assert not Limits(least_agreement=0.5).has_memory_limit


def test_a_limit_in_bytes_is_compared_with_the_peak_and_a_margin(inputs: MemoryInputs) -> None:
    needed = int(1.05 * Limits().compare(inputs, "onnx").peak_bytes)
    assert Limits(ram_bytes=needed).compare(inputs, "onnx").status == "fits"
    memory = Limits(ram_bytes=needed - 1).compare(inputs, "onnx")
    assert memory.status == "does not fit"
    assert memory.reason.startswith("needs ") and " of " in memory.reason


def test_a_devices_memory_is_compared_as_fit_does(inputs: MemoryInputs) -> None:
    dirty = Limits().compare(inputs, "onnx").dirty_bytes
    roomy = Limits(budget=budget(100 * dirty, 100 * dirty))
    assert roomy.compare(inputs, "onnx").status == "fits"
    # Between a quarter and two fifths of the RAM.
    tight = Limits(budget=budget(3 * dirty, dirty)).compare(inputs, "onnx")
    assert (tight.status, tight.reason) == ("tight", "tight on phone")
    small = Limits(budget=budget(2 * dirty, dirty // 2)).compare(inputs, "onnx")
    assert small.status == "does not fit"
    assert small.reason.endswith(" dirty memory on phone")


def test_both_limits_hold(inputs: MemoryInputs) -> None:
    both = Limits(ram_bytes=1000, budget=budget(10**12, 10**12))
    assert both.compare(inputs, "onnx").reason.endswith(" of 1.0 kB")


def test_what_was_planned_is_what_the_bundle_says(resumed: Resumed) -> None:
    for one in resumed.document["candidates"]:
        inputs = MemoryInputs.of(read_bundle(one["record"]["bundle"]).manifest)
        assert Limits().compare(inputs, "onnx").peak_bytes == one["memory"]["peak_bytes"]
