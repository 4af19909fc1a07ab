"""What becomes of runs of all kinds. Nothing runs: devices and their runners are made up."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from pocketlm.device_tests.device.facts import DeviceFacts, Provenance
from pocketlm.device_tests.device.target import LostDeviceError, RefusedError, Target
from pocketlm.device_tests.job.outcome import ENDED
from pocketlm.device_tests.job.values import JobResult
from pocketlm.device_tests.job.verdict import Verdict
from pocketlm.device_tests.memory.events import read_events
from pocketlm.device_tests.profiling import pipeline
from pocketlm.device_tests.profiling.document import AnswerDifference, Answers, Report
from pocketlm.device_tests.profiling.measured_run import PACKING, MeasuredRun, Workload
from pocketlm.device_tests.profiling.pipeline import profile
from pocketlm.device_tests.runners.payload import Payload
from pocketlm.device_tests.runners.upload import Uploaded
from pocketlm.runtime_py.bundle import Bundle, open_bundle
from tests.device_tests.heard import Heard
from tests.device_tests.report.sample_reports import PHONE

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


@pytest.fixture(scope="module")
def bundle(pico_bundle: Path) -> Bundle:
    return open_bundle(pico_bundle)


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

        def upload(*arguments: object) -> Uploaded:
            if isinstance(left[0], Exception):
                raise left[0]
            return Uploaded(PurePosixPath("/data/b"), PurePosixPath("/data/r"))

        def measure(
            device: Target, payload: Payload, uploaded: Uploaded, load: Workload,
            commands: Sequence[str], *more: object,
        ) -> MeasuredRun:  # fmt: skip
            if asked is not None:
                asked.append(commands)
            ending = left.pop(0)
            assert not isinstance(ending, Exception)
            verdict, text = ending
            job = JobResult("n", verdict, "because")
            return MeasuredRun(job, read_events(text), (), np.zeros(0, np.float32))

        monkeypatch.setattr(pipeline, "payload", lambda *arguments: runner)
        monkeypatch.setattr(pipeline, "upload", upload)
        monkeypatch.setattr(pipeline, "measure", measure)
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
    monkeypatch.setattr(
        "pocketlm.device_tests.profiling.golden_answers.compare_answers", lambda *arguments: WRONG
    )
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


def test_an_artifact_without_caches_of_their_own_is_named(made_up: Profile) -> None:
    whole = WHOLE + '{"event":"end","clock_s":15.0}\n'
    (warning,) = (found for found in made_up(("ok", whole)).warnings if "build" in found)
    assert "they count as activations; build the bundle again" in warning
    cache = '{"part":"kv-ring","bytes":9,"resident_bytes":0,"swap_bytes":0}'
    apart = whole.replace('"regions":[]', f'"regions":[{cache}]')
    assert not any("build" in found for found in made_up(("ok", apart)).warnings)


@pytest.mark.parametrize(("name", "own_libc"), [("host", False), ("adb:1", True), ("ssh:pi", True)])
def test_a_runner_brings_its_c_library_to_other_machines(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, name: str, own_libc: bool
) -> None:
    class StopError(Exception):
        pass

    def payload(backend: str, architecture: str, brings_libc: bool, tell: object) -> Payload:
        raise StopError(backend, architecture, brings_libc)

    monkeypatch.setattr(pipeline, "payload", payload)
    with pytest.raises(StopError) as caught:
        profile(Phone(name), bundle, LOAD, Heard().told)  # type: ignore[arg-type]
    assert caught.value.args == ("executorch", "aarch64", own_libc)
