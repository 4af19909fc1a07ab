"""The report of a run whose connection was lost, made by whoever collects it."""

import functools
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pocketlm import main
from pocketlm.device_tests.device.external_tool import ToolRun
from pocketlm.device_tests.device.transfer import PIECE_BYTES
from pocketlm.device_tests.job.lifecycle import run_job
from pocketlm.device_tests.job.values import JobSpec
from pocketlm.device_tests.profiling import measured_run
from pocketlm.device_tests.profiling.document import Report
from pocketlm.device_tests.profiling.measured_run import RunNote, Workload, prompt_of
from pocketlm.device_tests.profiling.pipeline import profile
from pocketlm.runtime_py.bundle import open_bundle
from tests.device_tests.broken_link import BROKEN, BrokenLink, broken_target
from tests.device_tests.heard import Heard
from tests.device_tests.profiling.test_profile_on_this_machine import CAME_TO_ITS_END


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measured_run, "run_job", functools.partial(run_job, reconnect_s=0))
    return tmp_path


def collect(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["jobs", "collect", *map(str, arguments), "--on", "host"])


def breaks_once_it_runs(folder: Path) -> Callable[[str, str], ToolRun | None]:
    return lambda kind, what: BROKEN if any(folder.rglob("job.runner")) else None


def lost(folder: Path, note: RunNote) -> str:
    """Leave a job on this machine that does nothing, with the note of a profile; return its id."""
    target = broken_target(folder, BrokenLink(breaks_once_it_runs(folder)))
    spec = JobSpec(("true",), timeout_s=60, note=asdict(note))
    result = run_job(target, spec, folder.parent / "unused", reconnect_s=0)
    assert result.verdict == "lost_device"
    return result.nonce


def test_a_lost_profile_is_collected_with_its_report(
    pico_bundle: Path, compiling_commands: None, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where the runners are compiled is one's own; where the device keeps things is this test's.
    folder = cache / "device"
    monkeypatch.setattr("pocketlm.device_tests.device.targets.host.default_folder", lambda: folder)
    bundle = open_bundle(pico_bundle)
    load = Workload("onnx", prompt_of(bundle, "onnx", 40), 8, threads=1)
    target = broken_target(folder, BrokenLink(breaks_once_it_runs(folder)), PIECE_BYTES)
    report = profile(target, bundle, load, Heard().told)
    assert report.verdict == "lost_device"
    job = report.reason.partition("pocketlm jobs collect ")[2].split()[0]
    result = collect(job, "--json")
    assert result.exit_code in (0, 1)  # 1: clean lines depend on this machine's files
    document = json.loads(result.stdout)
    found = Report.from_json(Path(document["report"]).read_text(), "report")
    assert found.verdict in CAME_TO_ITS_END and found.verdict == document["verdict"]
    assert found.answers is not None and found.answers.passed
    assert [phase.name for phase in found.phases][-1] == "answered"
    assert found.ledger is not None and len(found.steps) == 1 + 8
    assert (found.run.prompt_tokens, found.run.threads, found.bundle.backend) == (40, 1, "onnx")
    assert "<html" in Path(document["page"]).read_text()


@pytest.mark.parametrize("state", ["gone", "another"])
def test_without_the_bundle_a_profile_stays_to_be_collected(
    pico_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    folder = cache / "device"
    monkeypatch.setattr("pocketlm.device_tests.device.targets.host.default_folder", lambda: folder)
    there = cache / "moved" if state == "gone" else pico_bundle
    job = lost(folder, RunNote(str(there), "0" * 16, Workload("onnx", (1,), 1, 1)))
    refused = collect(job)
    assert refused.exit_code == 2
    said = refused.stderr.replace("\n", " ")
    assert f"the job's bundle {there}: " in said and "or take its files alone with --raw" in said
    named = collect(job, "--bundle", pico_bundle)
    assert named.exit_code == 2 and "it is not the one that the job ran" in named.stderr
    assert collect(job, "--out", "raw", "--raw").exit_code == 0
    assert Path("raw", "job.out").exists() and not Path("raw", "report.json").exists()
