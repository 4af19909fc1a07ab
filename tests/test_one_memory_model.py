"""`inspect`, `fit`, a profile's ledger and the heap that an engine asks for: the same bytes."""

import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("executorch")

from pocketlm.device_tests.commands.fit import fit as fit_command
from pocketlm.device_tests.fit.fitting import fit
from pocketlm.device_tests.fit.memory_budget import profiles
from pocketlm.device_tests.job.values import JobResult
from pocketlm.device_tests.memory.events import read_events
from pocketlm.device_tests.profiling.measured_run import MeasuredRun, Workload
from pocketlm.device_tests.profiling.pipeline import report_of
from pocketlm.device_tests.runners.payload import Payload
from pocketlm.edge_build import backends
from pocketlm.edge_build.backends.executorch.inspection import inspect_program
from pocketlm.runtime_py import engines, open_bundle, open_session
from pocketlm.runtime_py.commands.inspect_bundle import inspect_bundle
from pocketlm.runtime_py.inspection import memory_parts
from pocketlm.runtime_py.memory_inputs import MemoryInputs
from pocketlm.runtime_py.memory_prediction import heap_bytes
from tests.artifacts import Build, Lowered, lowered_executorch, lowered_onnx
from tests.conftest import TINY_PUBLISHED
from tests.device_tests.report.sample_reports import PHONE

Sizes = Mapping[str, int]
BUNDLES = ("pico_bundle", "pico_int8_bundle")
# Which rows are read depends on the text; what each of them takes does not.
ROWS = "embedding rows"
PHONE_6GB = next(budget for budget in profiles() if budget.name == "phone-6gb")
RUN = (
    '{"event":"start","clock_s":10.0}\n'
    '{"event":"phase","phase":"decoded","clock_s":14,"peak_bytes":9000,"peak_is_of_phase":true,'
    '"regions_are_counted":true,"regions":[],"mappings":[]}\n'
)


@pytest.fixture(params=BUNDLES)
def bundle(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(request.param)
    return folder


@pytest.mark.parametrize("backend", backends.names())
def test_inspect_fit_ledger_and_heap_have_the_same_figures_of_a_bundle(
    bundle: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspected = _inspected(bundle, backend)
    assert inspected == _fitted(bundle, backend)
    ledger = _ledger(bundle, backend)
    assert {"weights, packed", "activations", "logits", "KV cache, global"} <= set(ledger)
    assert ledger == {part: size for part, size in inspected.items() if part != ROWS}
    # The heap is this machine's, and so are the kernels.
    budget = replace(PHONE_6GB, architecture=platform.machine())
    here = fit(MemoryInputs.of(open_bundle(bundle).manifest), backend, budget).prediction
    assert _heap(bundle, backend, monkeypatch) == here.dirty_bytes


def _inspected(bundle: Path, backend: str) -> Sizes:
    document = json.loads(CliRunner().invoke(inspect_bundle, [str(bundle), "--json"]).stdout)
    parts = document["memory_parts"]
    return {part["part"]: part["size_bytes"] for part in parts if part["backend"] == backend}


def _fitted(bundle: Path, backend: str) -> Sizes:
    arguments = [str(bundle), "--device", PHONE_6GB.name, "--backend", backend, "--json"]
    (found,) = json.loads(CliRunner().invoke(fit_command, arguments).stdout)["fits"]
    return {part["part"]: part["size_bytes"] for part in found["parts"]}


def _ledger(folder: Path, backend: str) -> Sizes:
    """Profile a run to the end of the context, of which nothing was measured."""
    bundle = open_bundle(folder)
    load = Workload(backend, (5,) * (bundle.manifest.context_length - 1), 1, 1, answers=False)
    run = MeasuredRun(JobResult("n", "ok", ""), read_events(RUN), (), np.zeros(0, np.float32))
    runner = Payload(backend, "aarch64", (), ("./runner",), ("./sampler",), backend, "1")
    ledger = report_of("phone", PHONE, bundle, runner, load, run).ledger
    assert ledger is not None
    sizes = {line.part: line.predicted_bytes for line in ledger.lines if line.part != ROWS}
    return {part: size for part, size in sizes.items() if size is not None}


def _heap(bundle: Path, backend: str, monkeypatch: pytest.MonkeyPatch) -> int:
    asked: list[int] = []

    @contextmanager
    def recorded(size_bytes: int) -> Iterator[None]:
        asked.append(size_bytes)
        yield

    module = engines.load(backend).load.__module__
    monkeypatch.setattr(f"{module}.huge_page_heap", recorded)
    open_session(bundle, backend=backend).close()
    (size_bytes,) = asked
    return size_bytes


def _lowered(backend: str, family: str, recipe: str) -> Lowered:
    if backend == "onnx":
        return lowered_onnx(Build(family, recipe))
    return lowered_executorch(family, recipe)


@pytest.mark.parametrize("family", TINY_PUBLISHED)
@pytest.mark.parametrize("backend", backends.names())
def test_all_have_the_same_figures_of_every_family(backend: str, family: str) -> None:
    manifest = _lowered(backend, family, "int4-g32").manifest
    fitted = fit(MemoryInputs.of(manifest), backend, PHONE_6GB).prediction
    assert {part.part: part.size_bytes for part in memory_parts(manifest)} == {
        part.part: part.size_bytes for part in fitted.parts
    }
    budget = replace(PHONE_6GB, architecture=platform.machine())
    here = fit(MemoryInputs.of(manifest), backend, budget).prediction
    assert heap_bytes(manifest, backend) == here.dirty_bytes


@pytest.mark.parametrize(
    ("built", "differs_by"),
    [
        # Positions of eight rows of logits, 8 bytes each, that the formula leaves out.
        ("pico_bundle", 64),
        # Rows of 4,096 logits are larger than all else that a tiny model plans: the formula counts.
        ("gemma3_text", 0),
        # Rows in 8 bits have scales and zero points besides: 80 bytes more.
        ("pico_int8_bundle", 144),
    ],
)
def test_a_plans_formula_has_what_the_program_plans(
    request: pytest.FixtureRequest, built: str, differs_by: int
) -> None:
    if built in TINY_PUBLISHED:
        manifest = lowered_executorch(built, "int4-g32").manifest
    else:
        manifest = open_bundle(request.getfixturevalue(built)).manifest
    inputs = MemoryInputs.of(manifest)
    choices = inputs.backends["executorch"]
    planned = replace(inputs, backends={"executorch": replace(choices, planned_bytes=None)})
    exact, formula = (
        fit(numbers, "executorch", PHONE_6GB).prediction.of("activations")
        for numbers in (inputs, planned)
    )
    assert abs(exact - formula) <= differs_by


def test_executorchs_figure_is_what_the_program_plans(bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    entry = manifest.backends["executorch"]
    planned = inspect_program(bundle / entry.model).planned_bytes
    chunk, intermediate = manifest.prefill_chunk, manifest.model["layers"][0]["intermediate_size"]
    # On Arm the MLP has a workspace beside it; logits are a line of their own.
    expected = planned - 4 * entry.logits_size + 4 * chunk * (3 * intermediate // 2)
    assert _inspected(bundle, "executorch")["activations"] == expected
