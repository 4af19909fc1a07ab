"""The same profile on real hardware: POCKETLM_PHONE=adb:SERIAL or ssh:HOST names it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocketlm.device_tests.device.facts import EMULATED
from pocketlm.device_tests.device.target import Target
from pocketlm.device_tests.device.targets import open_target
from pocketlm.device_tests.job.verdict import MEASURED
from pocketlm.device_tests.profiling.measured_run import Workload, prompt_of
from pocketlm.device_tests.profiling.pipeline import ProgressCallbacks, profile
from pocketlm.runtime_py import open_bundle

pytestmark = pytest.mark.phone

QUIET = ProgressCallbacks(lambda step: None, lambda done, total, name: None, lambda line: None)


@pytest.fixture
def phone() -> Iterator[Target]:
    name = os.environ.get("POCKETLM_PHONE", "")
    if not name:
        pytest.skip("no phone: set POCKETLM_PHONE=adb:SERIAL or ssh:HOST")
    target = open_target(name)
    yield target
    target.close()


@pytest.mark.parametrize("backend", ["executorch", "onnx"])
def test_answers_are_golden_and_memory_is_as_predicted(
    phone: Target, pico_bundle: Path, backend: str
) -> None:
    bundle = open_bundle(pico_bundle)
    load = Workload(backend, prompt_of(bundle, backend, 128), 64, threads=2)
    report = profile(phone, bundle, load, QUIET)
    assert report.device.provenance not in EMULATED
    assert report.verdict in MEASURED, report.reason
    assert report.answers is not None and report.answers.passed
    assert report.ledger is not None and report.ledger.passed, report.ledger
