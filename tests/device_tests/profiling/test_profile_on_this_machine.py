"""A bundle on this machine as the device, end to end."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from pocketlm.device_tests.device.shell_target import ShellTarget
from pocketlm.device_tests.device.targets.host import open_host
from pocketlm.device_tests.memory.values import AndroidAccount
from pocketlm.device_tests.profiling.document import Report
from pocketlm.device_tests.profiling.measured_run import Workload, packed_cache_name, prompt_of
from pocketlm.device_tests.profiling.pipeline import profile
from pocketlm.device_tests.runners.upload import folder_name
from pocketlm.runtime_py.bundle import Bundle, open_bundle
from tests.device_tests.heard import Heard

PROMPT_TOKENS, DECODE_TOKENS = 300, 40
# Others may use this machine meanwhile: that shows in times, or as pages that were read again.
CAME_TO_ITS_END = ("ok", "throttled", "under_pressure")
# Stands for a phone's.
DUMPSYS = """#!/bin/sh
echo "** MEMINFO in pid $3 [runner] **
 App Summary
         Native Heap:    11000
           TOTAL PSS:    12345            TOTAL RSS:    23456       TOTAL SWAP PSS:      103"
"""


@dataclass(frozen=True)
class Profiled:
    """A profile on this machine."""

    bundle: Bundle
    target: ShellTarget
    heard: Heard
    report: Report


@pytest.fixture(scope="module")
def bundle(pico_bundle: Path) -> Bundle:
    return open_bundle(pico_bundle)


def profiled(bundle: Bundle, backend: str, folder: Path, *, packed_cache: bool) -> Profiled:
    target, heard = open_host(folder), Heard()
    assert isinstance(target, ShellTarget)
    prompt = prompt_of(bundle, backend, PROMPT_TOKENS)
    load = Workload(backend, prompt, DECODE_TOKENS, threads=2, packed_cache=packed_cache)
    return Profiled(bundle, target, heard, profile(target, bundle, load, heard.told))


@pytest.fixture(scope="module", params=["executorch", "onnx"])
def run(
    request: pytest.FixtureRequest,
    bundle: Bundle,
    compiling_commands: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Profiled:
    folder = tmp_path_factory.mktemp("device") / "pocketlm"
    programs = tmp_path_factory.mktemp("programs")
    (programs / "dumpsys").write_text(DUMPSYS)
    (programs / "dumpsys").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(programs), prepend=os.pathsep)
        return profiled(bundle, request.param, folder, packed_cache=False)


def test_it_comes_to_its_end_with_the_bundles_answers(run: Profiled) -> None:
    report = run.report
    assert report.verdict in CAME_TO_ITS_END
    assert report.answers is not None
    assert report.answers.passed and report.answers.differences == ()
    assert 0 < report.answers.largest_error <= report.answers.tolerance
    assert report.load_s is not None and report.load_s > 0


def test_what_has_androids_tools_is_asked_for_its_own_account(run: Profiled) -> None:
    assert run.report.android == AndroidAccount(12345 * 1024, 23456 * 1024, 103 * 1024, 0)


def test_parts_of_every_phase_add_up(run: Profiled) -> None:
    names = [phase.name for phase in run.report.phases]
    assert names == ["started", "loaded", "prefilled", "decoded", "answered"]
    for phase in run.report.phases:
        assert sum(part.resident_bytes for part in phase.parts) == phase.resident_bytes
        assert phase.dirty_bytes + phase.clean_bytes == phase.resident_bytes
        assert phase.dirty_bytes == sum(p.resident_bytes for p in phase.parts if p.kind == "dirty")
        assert phase.start_s <= phase.end_s
        unattributed = [p.resident_bytes for p in phase.parts if p.part == "unattributed"]
        assert sum(unattributed) < 0.05 * phase.resident_bytes


def test_dirty_memory_is_as_predicted(run: Profiled) -> None:
    ledger = run.report.ledger
    assert ledger is not None
    # Clean lines are not held against the prediction here: it is of a phone's file system, and
    # this machine's may keep larger folios, of which a fault maps all pages around.
    dirty = [line for line in ledger.lines if line.kind == "dirty"]
    assert {"weights, packed", "activations", "logits"} <= {line.part for line in dirty}
    for line in dirty:
        assert line.within, line


def test_caches_are_resident_as_far_as_the_run_went(run: Profiled) -> None:
    assert run.report.ledger is not None
    lines = {line.part: line for line in run.report.ledger.lines}
    # 2 layers that see all, 4 rings; 2 heads of 128 in float32, keys and values.
    row_bytes = 2 * 2 * 128 * 4
    entry = run.bundle.backend(run.report.bundle.backend)
    ring = min(cache.capacity for cache in entry.caches)
    for part, size in (
        ("KV cache, global", 2 * 340 * row_bytes),
        ("KV cache, rings", 4 * ring * row_bytes),
    ):
        # Each array ends within a page, and may begin within one.
        slack = 2 * 4096 * 2 * 2 * 6
        assert abs(lines[part].measured_bytes - size) <= slack


def test_steps_are_those_of_the_measured_run_alone(run: Profiled) -> None:
    steps = run.report.steps
    assert [step.tokens for step in steps] == [PROMPT_TOKENS] + [1] * DECODE_TOKENS
    assert [step.position for step in steps] == [*range(PROMPT_TOKENS, PROMPT_TOKENS + 41)]
    assert all(step.wall_s > 0 for step in steps)
    clocks = [step.clock_s for step in steps]
    assert clocks == sorted(clocks) and clocks[0] > 0


def test_the_sampler_saw_the_run(run: Profiled) -> None:
    samples = run.report.samples
    assert samples
    assert max(sample.resident_bytes for sample in samples) > 2_000_000
    assert [sample.clock_s for sample in samples] == sorted(s.clock_s for s in samples)


def test_the_report_says_what_was_run_where(run: Profiled) -> None:
    report, backend = run.report, run.report.bundle.backend
    assert (report.target, report.device.provenance) == ("host", "host")
    assert (report.run.prompt_tokens, report.run.decode_tokens, report.run.threads) == (300, 40, 2)
    assert report.run.runtime == {"executorch": "executorch", "onnx": "onnxruntime"}[backend]
    assert report.run.runtime_version
    assert (report.bundle.context_length, report.bundle.prefill_chunk) == (512, 32)
    folder = run.bundle.folder / backend
    assert report.bundle.artifact_bytes == sum(f.stat().st_size for f in folder.iterdir())


def test_progress_is_told(run: Profiled) -> None:
    assert run.heard.steps[0] == "looking at host"
    assert run.heard.steps[-2:] == ["sending what host does not have yet", "running on host"]
    assert "runner" in run.heard.sent and "manifest.json" in run.heard.sent
    assert json.loads(run.heard.lines[0])["event"] == "start"
    assert json.loads(run.heard.lines[-1])["event"] == "end"


def test_nothing_of_the_job_is_left(run: Profiled) -> None:
    left = {path.name for path in Path(run.target.folder).iterdir()}
    assert {"bundles", "runners"} <= left
    assert not list(Path(run.target.folder).rglob("job.*"))


def test_the_report_survives_json(run: Profiled) -> None:
    assert Report.from_json(run.report.to_json(), "report") == run.report


def test_packed_weights_are_mapped_from_a_file_that_a_first_run_makes(
    bundle: Bundle, compiling_commands: None, tmp_path: Path
) -> None:
    found = profiled(bundle, "executorch", tmp_path / "device", packed_cache=True)
    assert found.heard.steps[-2:] == ["packing weights into a file", "running on host"]
    report = found.report
    assert report.verdict in CAME_TO_ITS_END
    assert report.answers is not None and report.answers.passed
    (file,) = (tmp_path / "device").rglob("*.packed-weights.bin")
    assert file.name == packed_cache_name(folder_name(bundle))
    assert report.ledger is not None
    lines = {(line.part, line.kind): line for line in report.ledger.lines}
    packed = lines["weights, packed", "clean"]
    assert packed.within
    assert packed.measured_bytes > 0.9 * file.stat().st_size
    dirty = lines.get(("weights, packed", "dirty"))
    assert dirty is None or dirty.measured_bytes < 0.2 * packed.measured_bytes
    assert report.ledger.unattributed_bytes < 0.05 * report.phases[-1].resident_bytes
    assert report.run.packed_cache
