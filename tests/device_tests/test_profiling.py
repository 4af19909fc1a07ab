"""A bundle on this machine as the device, end to end; and what becomes of runs that fail."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from device_tests import profiling
from device_tests.facts import DeviceFacts, Provenance
from device_tests.job_values import JobResult
from device_tests.measured_run import (
    PACKING,
    MeasuredRun,
    Workload,
    packed_cache_name,
    prompt_of,
)
from device_tests.native.payload import Payload
from device_tests.outcome import ENDED
from device_tests.placement import Placed, folder_name
from device_tests.profiling import Told, profile
from device_tests.report.document import AndroidAccount, AnswerDifference, Answers, Report
from device_tests.run_events import read_events
from device_tests.shell_target import ShellTarget
from device_tests.target import LostDeviceError, RefusedError, Target
from device_tests.targets.host import open_host
from device_tests.verdict import Verdict
from runtime_py.bundle import Bundle, open_bundle
from tests.device_tests.report.sample_reports import PHONE

PROMPT_TOKENS, DECODE_TOKENS = 300, 40
# Others may use this machine meanwhile: that shows in times, or as pages that were read again.
CAME_TO_ITS_END = ("ok", "throttled", "under_pressure")


@dataclass
class Heard:
    """What was told of a profile's progress."""

    steps: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def told(self) -> Told:
        return Told(self.steps.append, lambda done, of, name: self.sent.append(name), self.say)

    def say(self, line: str) -> None:
        self.lines.append(line)


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


# From here on nothing runs: a device and its runner are made up.

PHASE = (
    '{{"event":"phase","phase":"{}","clock_s":{},"peak_bytes":9000,"peak_is_of_phase":{},'
    '"regions_are_counted":{},"regions":[],"mappings":[{{"path":"[anonymous]",'
    '"resident_bytes":8192,"anonymous_bytes":8192,"dirty_bytes":8192,"swap_bytes":4096}}]}}\n'
)
CALL = '{{"event":"run","tokens":{},"position":{},"greedy_id":7,"clock_s":12.0,"wall_s":0.5{}}}\n'
START = '{"event":"start","clock_s":10.0}\n{"event":"runtime","name":"x","version":"9"}\n'
WHOLE = "".join(
    (
        START,
        PHASE.format("started", 10.5, "true", "true"),
        PHASE.format("loaded", 11, "true", "true"),
        CALL.format(3, 3, ""),
        PHASE.format("prefilled", 13, "true", "true"),
        CALL.format(1, 4, ""),
        CALL.format(1, 5, ""),
        PHASE.format("decoded", 14, "true", "true"),
        # The first of the golden answers, and what a replay token by token feeds.
        CALL.format(9, 9, ',"finite":true,"mean":0.0,"std":1.0'),
        CALL.format(1, 1, ""),
    )
)
LOAD = Workload("executorch", (1, 2, 3), 2, 1, answers=False)


@dataclass(frozen=True)
class Phone:
    """A device that only says what it is."""

    name: str = "adb:1"
    provenance: Provenance = "real"

    @property
    def folder(self) -> PurePosixPath:
        return PurePosixPath("/data")

    def facts(self) -> DeviceFacts:
        return replace(PHONE, provenance=self.provenance)


Profile = Callable[..., Report]
Measured = tuple[Verdict, str]  # a job's verdict, and what its runner wrote


@pytest.fixture
def made_up(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[Profile]:
    """Return a function: how runs end, one after the other → report."""
    runner = Payload("executorch", "aarch64", (), ("./runner",), ("./sampler",), "executorch", "1")

    def made(
        *runs: Measured | Exception,
        load: Workload = LOAD,
        target: Phone | None = None,
        asked: list[Sequence[str]] | None = None,
    ) -> Report:
        left = list(runs)

        def place(*arguments: object) -> Placed:
            if isinstance(left[0], Exception):
                raise left[0]
            return Placed(PurePosixPath("/data/b"), PurePosixPath("/data/r"))

        def measure(
            device: Target, payload: Payload, placed: Placed, load: Workload,
            commands: Sequence[str], *more: object,
        ) -> MeasuredRun:  # fmt: skip
            if asked is not None:
                asked.append(commands)
            ending = left.pop(0)
            assert not isinstance(ending, Exception)
            verdict, text = ending
            job = JobResult("n", verdict, "because")
            return MeasuredRun(job, read_events(text), (), np.zeros(0, np.float32))

        monkeypatch.setattr(profiling, "payload", lambda *arguments: runner)
        monkeypatch.setattr(profiling, "place", place)
        monkeypatch.setattr(profiling, "measure", measure)
        return profile(target or Phone(), bundle, load, Heard().told)  # type: ignore[arg-type]

    yield made


def test_a_run_is_accounted_for(made_up: Profile) -> None:
    report = made_up(("ok", WHOLE))
    assert (report.verdict, report.reason, report.target) == ("ok", "because", "adb:1")
    assert [(phase.name, phase.start_s, phase.end_s) for phase in report.phases] == [
        ("started", 0.0, 0.5),
        ("loaded", 0.5, 1.0),
        ("prefilled", 1.0, 3.0),
        ("decoded", 3.0, 4.0),
    ]
    assert {phase.swap_bytes for phase in report.phases} == {4096}
    assert [(step.tokens, step.clock_s) for step in report.steps] == [(3, 2.0), (1, 2.0), (1, 2.0)]
    assert report.ledger is not None and report.ledger.measured_peak_bytes == 9000
    assert report.answers is None
    assert (report.run.runtime, report.run.runtime_version) == ("x", "9")


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (LostDeviceError("it went away"), "lost_device"),
        (RefusedError("it is full", "no_space"), "no_space"),
        (RefusedError("it asks first", "unauthorized"), "unauthorized"),
    ],
)
def test_a_bundle_that_cannot_be_sent_is_a_verdict(
    made_up: Profile, error: Exception, verdict: str
) -> None:
    report = made_up(error)
    assert (report.verdict, report.reason) == (verdict, str(error))
    assert (report.phases, report.steps, report.ledger, report.answers) == ((), (), None, None)
    # What would have run.
    assert (report.run.runtime, report.run.runtime_version) == ("executorch", "1")
    assert Report.from_json(report.to_json(), "x") == report


def test_a_run_that_was_killed_has_what_was_seen_and_no_ledger(made_up: Profile) -> None:
    cut = WHOLE[: WHOLE.index('"phase":"decoded"')]
    report = made_up(("oom_killed", cut), load=replace(LOAD, answers=True))
    assert report.verdict == "oom_killed"
    assert [phase.name for phase in report.phases] == ["started", "loaded", "prefilled"]
    assert len(report.steps) == 3
    assert report.ledger is None and report.answers is None


def test_the_ledger_ends_with_the_measured_run(made_up: Profile) -> None:
    later = PHASE.format("verified", 20, "true", "true").replace("9000", "99000")
    report = made_up(("ok", WHOLE + later))
    assert [phase.peak_bytes for phase in report.phases] == [9000] * 4 + [99000]
    assert report.ledger is not None and report.ledger.measured_peak_bytes == 9000


def test_packing_is_a_run_that_only_loads(made_up: Profile) -> None:
    asked: list[Sequence[str]] = []
    load = replace(LOAD, packed_cache=True)
    report = made_up(("ok", START), ("ok", WHOLE), load=load, asked=asked)
    assert asked[0] == PACKING
    assert list(asked[1])[:2] == ["feed 1 2 3", "phase prefilled"]
    assert report.verdict == "ok" and report.run.packed_cache
    assert report.ledger is not None
    packed = {line.kind: line for line in report.ledger.lines if line.part == "weights, packed"}
    assert packed["clean"].predicted_bytes is not None
    assert packed["dirty"].predicted_bytes is None


def test_packing_that_fails_is_the_verdict(made_up: Profile) -> None:
    asked: list[Sequence[str]] = []
    loaded = WHOLE[: WHOLE.index('{"event":"run"')]
    report = made_up(
        ("oom_killed", loaded), load=replace(LOAD, packed_cache=True, answers=True), asked=asked
    )
    assert (report.verdict, report.reason, len(asked)) == ("oom_killed", "because", 1)
    assert [phase.name for phase in report.phases] == ["started", "loaded"]
    assert report.ledger is None


def test_packing_under_pressure_goes_on(made_up: Profile) -> None:
    load = replace(LOAD, packed_cache=True)
    assert made_up(("under_pressure", START), ("ok", WHOLE), load=load).verdict == "ok"


@pytest.mark.parametrize(
    ("provenance", "verdict", "reason"),
    [
        ("real", "throttled", "because"),
        ("host", "throttled", "because"),
        ("qemu-system", "ok", ENDED),
        ("qemu-user", "ok", ENDED),
    ],
)
def test_emulated_times_say_nothing(
    made_up: Profile, provenance: Provenance, verdict: str, reason: str
) -> None:
    report = made_up(("throttled", WHOLE), target=Phone(provenance=provenance))
    assert (report.verdict, report.reason) == (verdict, reason)


WRONG = Answers(5, 9.0, 0.2, 0, (AnswerDifference("a", 1, 2, "logits", "0.2", "9"),), passed=False)


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [("ok", "wrong_answers"), ("under_pressure", "under_pressure"), ("throttled", "throttled")],
)
def test_wrong_answers_are_a_verdict(
    made_up: Profile, monkeypatch: pytest.MonkeyPatch, verdict: Verdict, expected: str
) -> None:
    monkeypatch.setattr("device_tests.answers.judge", lambda *arguments: WRONG)
    report = made_up((verdict, WHOLE), load=replace(LOAD, answers=True))
    assert (report.verdict, report.answers) == (expected, WRONG)
    if expected == "wrong_answers":
        assert report.reason.startswith("1 answers differ from the bundle's golden answers")


def test_warnings_say_what_the_device_hides(made_up: Profile) -> None:
    text = PHASE.format("decoded", 14, "false", "false")
    assert [warning.split(":")[0] for warning in made_up(("ok", text)).warnings] == [
        "processes started here have oom_score_adj -1000",
        "the kernel does not tell which pages are resident",
        "the kernel does not forget a peak",
    ]


@pytest.mark.parametrize(("name", "own_libc"), [("host", False), ("adb:1", True), ("ssh:pi", True)])
def test_a_runner_brings_its_c_library_to_other_machines(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, name: str, own_libc: bool
) -> None:
    class StopError(Exception):
        pass

    def payload(backend: str, architecture: str, brings_libc: bool, tell: object) -> Payload:
        raise StopError(backend, architecture, brings_libc)

    monkeypatch.setattr(profiling, "payload", payload)
    with pytest.raises(StopError) as caught:
        profile(Phone(name), bundle, LOAD, Heard().told)  # type: ignore[arg-type]
    assert caught.value.args == ("executorch", "aarch64", own_libc)
