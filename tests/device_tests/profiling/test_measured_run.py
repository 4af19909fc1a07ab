"""What the runner is told, and what it left, as values."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from pocketlm.device_tests.device.target import LostDeviceError, Target
from pocketlm.device_tests.device.targets import open_target
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.job.script import OUTPUT, PID, SAMPLES
from pocketlm.device_tests.job.values import JobResult, JobSpec
from pocketlm.device_tests.job.verdict import Verdict
from pocketlm.device_tests.memory.dumpsys import ProcessMemory
from pocketlm.device_tests.profiling import measured_run
from pocketlm.device_tests.profiling.measured_run import (
    LOGITS,
    PACKING,
    SCRIPT,
    MeasuredRun,
    Workload,
    check_tokens,
    measure,
    packed_cache_name,
    packed_cache_of,
    prompt_of,
    script_of,
)
from pocketlm.device_tests.runners.payload import Payload
from pocketlm.device_tests.runners.upload import Uploaded
from pocketlm.runtime_py.bundle import Bundle, open_bundle
from pocketlm.runtime_py.verification import read_golden

UPLOADED = Uploaded(PurePosixPath("/data/bundles/9f2c"), PurePosixPath("/data/runners/1a2b"))
PAYLOAD = Payload(
    backend="executorch",
    architecture="aarch64",
    files=(),
    command=("./ld.so", "--library-path", ".", "./runner"),
    sampler=("./sampler",),
    runtime="executorch",
    runtime_version="1.5.1",
)


@pytest.fixture(scope="module")
def bundle(pico_bundle: Path) -> Bundle:
    return open_bundle(pico_bundle)


def workload(*, answers: bool = True, packed_cache: bool = False) -> Workload:
    return Workload("executorch", (5, 6, 7), 4, 2, answers, packed_cache)


def test_a_prompt_repeats_what_the_model_was_recorded_on(bundle: Bundle) -> None:
    texts = [(*c.prompt_ids, *c.fed_ids) for c in read_golden(bundle, "executorch").cases]
    ids = [token for text in texts for token in text]
    assert prompt_of(bundle, "executorch", 3) == tuple(ids[:3])
    assert prompt_of(bundle, "executorch", len(ids) + 2) == (*ids, *ids[:2])
    assert prompt_of(bundle, "executorch", 2 * len(ids)) == (*ids, *ids)
    assert prompt_of(bundle, "executorch", 0) == ()


def test_as_many_tokens_as_there_is_room_for(bundle: Bundle) -> None:
    check_tokens(bundle, 1, 1)
    check_tokens(bundle, 500, 12)
    with pytest.raises(DeviceError) as caught:
        check_tokens(bundle, 500, 13)
    assert str(caught.value) == (
        "500 prompt tokens and 13 decoded ones are 513; the bundle has room for 512: ask for "
        "fewer, or build with --context"
    )


@pytest.mark.parametrize(("prompt", "decode"), [(0, 5), (5, 0), (-5, 9), (9, -5)])
def test_less_than_one_token_is_no_profile(bundle: Bundle, prompt: int, decode: int) -> None:
    with pytest.raises(DeviceError, match="at least one of each"):
        check_tokens(bundle, prompt, decode)


def test_the_measured_run_comes_before_the_answers(bundle: Bundle) -> None:
    measured = ["feed 5 6 7", "phase prefilled", "decode 4", "phase decoded"]
    assert script_of(bundle, workload(answers=False)) == measured
    whole = script_of(bundle, workload())
    assert whole[:4] == measured
    assert whole[4].startswith("choices ") and whole[5] == "reset"


def test_packed_weights_are_of_one_bundle_and_one_runner() -> None:
    assert packed_cache_of(UPLOADED) == UPLOADED.runner / packed_cache_name("9f2c")
    assert packed_cache_name("9f2c") == "9f2c.packed-weights.bin"


def run_with(
    monkeypatch: pytest.MonkeyPatch,
    out: Path,
    load: Workload,
    left: dict[str, str],
    verdict: Verdict,
) -> tuple[JobSpec, str, MeasuredRun]:
    """Measure with a job that leaves what is given; return what it was asked and the result."""
    asked: list[JobSpec] = []
    scripts: list[str] = []

    def run_job(target: Target, spec: JobSpec, folder: Path, told: object) -> JobResult:
        asked.append(spec)
        scripts.append(spec.files[SCRIPT].read_text())
        files = {name: folder / name for name in left}
        for name, text in left.items():
            files[name].write_text(text)
        return JobResult("n", verdict, "because", files=files)

    monkeypatch.setattr(measured_run, "run_job", run_job)
    found = measure(
        open_target("host"), PAYLOAD, UPLOADED, load, ["a", "b"], out, lambda line: None
    )
    return asked[0], scripts[0], found


def test_a_job_has_the_script_the_runner_and_the_sampler(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, script, _ = run_with(monkeypatch, tmp_path, workload(packed_cache=True), {}, "ok")
    assert script == "a\nb\n"
    # Words of the payload are as seen from its folder, the job runs in its own.
    runner = "/data/runners/1a2b"
    assert spec.command == (
        f"{runner}/ld.so", "--library-path", runner, f"{runner}/runner", "/data/bundles/9f2c",
        "--script", SCRIPT, "--threads", "2", "--logits", LOGITS,
        "--packed-cache", f"{runner}/9f2c.packed-weights.bin",
    )  # fmt: skip
    assert spec.companion[:2] == (f"{runner}/sampler", PID)
    assert (spec.fetch, spec.timeout_s) == ((LOGITS,), 1800)


def test_without_answers_no_rows_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec, _, _ = run_with(monkeypatch, tmp_path, workload(answers=False), {}, "ok")
    assert "--logits" not in spec.command and "--packed-cache" not in spec.command


def test_what_a_job_left_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    left = {
        OUTPUT: '{"event":"start","clock_s":10.0}\n{"event":"end","clock_s":12.0}\n',
        SAMPLES: '{"clock_s":10.5,"resident_bytes":4096}\n{"clock_s":11.0,"resi',
        LOGITS: "",
    }
    _, _, found = run_with(monkeypatch, tmp_path, workload(), left, "ok")
    assert found.events.ended and found.events.start_s == 10.0
    assert [(sample.clock_s, sample.resident_bytes) for sample in found.samples] == [(0.5, 4096)]
    assert found.logits.dtype == np.float32 and not len(found.logits)


def test_a_job_that_left_nothing_is_a_run_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, _, found = run_with(monkeypatch, tmp_path, workload(), {}, "lost_device")
    assert (found.job.verdict, found.events.ended, found.samples) == ("lost_device", False, ())
    assert found.events == MeasuredRun.failed(found.job).events


LINES = (
    '{"event":"start","pid":4321,"clock_s":10.0}',
    '{"event":"phase","phase":"prefilled"}',
    '{"event":"phase","phase":"decoded"}',
    '{"event":"end","clock_s":12.0}',
)
ACCOUNT = ProcessMemory({}, {}, {"Pss": 4096})


def heard(monkeypatch: pytest.MonkeyPatch, out: Path) -> tuple[list[str], MeasuredRun]:
    """Measure with a runner that says `LINES`; return what was passed on, and the result."""

    def run_job(
        target: Target, spec: JobSpec, folder: Path, told: Callable[[str], None]
    ) -> JobResult:
        for line in LINES:
            told(line)
        return JobResult("n", "ok", "because")

    monkeypatch.setattr(measured_run, "run_job", run_job)
    lines: list[str] = []
    target = open_target("host")
    return lines, measure(target, PAYLOAD, UPLOADED, workload(), ["a"], out, lines.append)


def test_android_is_asked_once_when_nothing_is_measured_any_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def ask(target: Target, pid: int) -> ProcessMemory:
        asked.append((target.name, pid))
        return ACCOUNT

    monkeypatch.setattr(measured_run, "ask_process_memory", ask)
    lines, found = heard(monkeypatch, tmp_path)
    assert (found.account, asked) == (ACCOUNT, [("host", 4321)])
    assert lines == [*LINES]


def test_a_question_that_is_not_answered_does_not_end_a_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def ask(target: Target, pid: int) -> ProcessMemory:
        raise LostDeviceError("no answer within 30 s")

    monkeypatch.setattr(measured_run, "ask_process_memory", ask)
    lines, found = heard(monkeypatch, tmp_path)
    assert found.account is None and found.job.verdict == "ok"
    assert lines == [*LINES]


def test_packing_only_loads() -> None:
    assert PACKING == ("reset",)
