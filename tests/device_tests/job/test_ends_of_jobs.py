"""Jobs on this machine, and how they end."""

from pathlib import Path

import pytest

from pocketlm.device_tests.device.external_tool import ToolRun
from pocketlm.device_tests.device.shell_target import ShellTarget
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.job import watcher
from pocketlm.device_tests.job.lifecycle import run_job
from pocketlm.device_tests.job.script import ERRORS, OUTPUT, PID, SAMPLES
from pocketlm.device_tests.job.values import JobSpec
from pocketlm.device_tests.job.verdict import Verdict
from tests.device_tests.broken_link import BrokenLink, broken_target
from tests.device_tests.job.shells import RUN, Script, is_alive, left_on, wait_until


def test_job_runs_and_leaves_nothing(target: ShellTarget, tmp_path: Path, script: Script) -> None:
    files = script("echo one; echo two; echo three >&2; cat given > made; printf cut")
    (tmp_path / "given").write_text("text")
    lines: list[str] = []
    spec = JobSpec(
        RUN, {**files, "given": tmp_path / "given"}, fetch=("made", "never made"), timeout_s=60
    )
    result = run_job(target, spec, tmp_path / "out", lines.append)
    assert (result.verdict, result.status) == ("ok", 0)
    assert lines == ["one", "two"]
    assert result.files[OUTPUT].read_text() == "one\ntwo\ncut"
    assert result.files[ERRORS].read_text() == "three\n"
    assert result.files["made"].read_text() == "text"
    assert "never made" not in result.files
    assert left_on(target) == []


def test_counters_of_before_and_after_come_along(
    target: ShellTarget, tmp_path: Path, script: Script
) -> None:
    result = run_job(target, JobSpec(RUN, script("true")), tmp_path / "out")
    before, after = result.counters_before, result.counters_after
    assert before.uptime_s is not None
    assert after.uptime_s is not None
    assert before.uptime_s <= after.uptime_s
    assert after.available_bytes


def test_companion_knows_the_runner_and_ends_with_it(
    target: ShellTarget, tmp_path: Path, script: Script
) -> None:
    files = script("echo $$; while [ ! -s job.samples ]; do sleep 0.02; done")
    watch = "echo $0 $$; exec sleep 100"
    spec = JobSpec(RUN, files, companion=("sh", "-c", watch, PID), timeout_s=60)
    result = run_job(target, spec, tmp_path / "out")
    assert result.verdict == "ok"
    runner, companion = result.files[SAMPLES].read_text().split()
    assert runner == result.files[OUTPUT].read_text().strip()
    assert not is_alive(int(companion))


@pytest.mark.parametrize(
    ("text", "verdict", "status"),
    [
        ("kill -ILL $$", "illegal_instruction", 132),
        ("kill -ABRT $$", "crashed", 134),
        ("kill -SEGV $$", "crashed", 139),
        ("kill -KILL $$", "killed_unknown", 137),
        ("kill -TERM $$", "killed_unknown", 143),
        ('echo \'{"event":"error","reason":"no manifest"}\'; exit 3', "runner_error", 3),
        ("exit 1", "runner_error", 1),
        ("echo 'x: No space left on device' >&2; exit 1", "no_space", 1),
    ],
)
def test_every_end_has_a_verdict(
    text: str, verdict: Verdict, status: int, target: ShellTarget, tmp_path: Path, script: Script
) -> None:
    result = run_job(target, JobSpec(RUN, script(text)), tmp_path / "out")
    assert (result.verdict, result.status) == (verdict, status)
    assert result.reason
    assert left_on(target) == []


def test_missing_and_forbidden_programs(
    target: ShellTarget, tmp_path: Path, script: Script
) -> None:
    missing = run_job(target, JobSpec(("./runner", "x")), tmp_path / "out")
    assert (missing.verdict, missing.status) == ("runner_error", 127)
    assert "./runner" in missing.reason
    forbidden = run_job(target, JobSpec(("./run.sh",), script("true")), tmp_path / "out")
    assert (forbidden.verdict, forbidden.status) == ("permission", 126)


def test_late_job_is_stopped_on_the_device(
    target: ShellTarget, tmp_path: Path, script: Script
) -> None:
    files = script("echo $$; sleep 100 & echo $!; wait")
    result = run_job(target, JobSpec(RUN, files, timeout_s=1), tmp_path / "out")
    assert result.verdict == "timeout"
    for pid in result.files[OUTPUT].read_text().split():
        assert not is_alive(int(pid))
    assert left_on(target) == []


def test_late_job_that_the_device_does_not_stop_is_stopped_from_here(
    target: ShellTarget, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "_LATE_S", -59.5)
    files = script("echo $$; sleep 100")
    result = run_job(target, JobSpec(RUN, files, timeout_s=60), tmp_path / "out")
    assert result.verdict == "timeout"
    assert not is_alive(int(result.files[OUTPUT].read_text()))
    assert left_on(target) == []


def test_job_that_never_begins_is_said(
    target: ShellTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WithoutNohup(BrokenLink):
        """As if the device had no such program."""

        def call(self, text: str, timeout_s: float) -> ToolRun:
            return super().call(text.replace("nohup", "no-such-program"), timeout_s)

    monkeypatch.setattr(watcher, "_BEGIN_S", 0.3)
    lame = broken_target(tmp_path / "device", WithoutNohup(), 10**6)
    with pytest.raises(DeviceError, match=r"did not begin within 0 s; it needs sh and nohup there"):
        run_job(lame, JobSpec(("true",)), tmp_path / "out")
    assert left_on(lame) == []


def test_job_whose_shell_is_killed_too_is_found_dead(
    target: ShellTarget, tmp_path: Path, script: Script
) -> None:
    files = script("echo $$; kill -9 $PPID; sleep 100")
    result = run_job(target, JobSpec(RUN, files, timeout_s=60), tmp_path / "out")
    assert (result.verdict, result.status) == ("killed_unknown", None)
    assert not is_alive(int(result.files[OUTPUT].read_text()))
    assert left_on(target) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_interrupted_job_is_stopped_and_removed(
    error: type[BaseException], target: ShellTarget, tmp_path: Path, script: Script
) -> None:
    pids: list[int] = []

    def interrupt(line: str) -> None:
        pids.append(int(line))
        raise error

    files = script("echo $$; sleep 100")
    with pytest.raises(error):
        run_job(target, JobSpec(RUN, files, timeout_s=60), tmp_path / "out", interrupt)
    wait_until(lambda: not is_alive(pids[0]))
    assert left_on(target) == []


def test_refused_before_the_start_is_a_verdict(
    target: ShellTarget, link: BrokenLink, tmp_path: Path
) -> None:
    link.fault = lambda kind, what: ToolRun(1, "", "device unauthorized.")
    assert run_job(target, JobSpec(("true",)), tmp_path / "out").verdict == "unauthorized"
    full = ToolRun(1, "", "remote write failed: No space left on device")
    link.fault = lambda kind, what: full if kind == "push" else None
    assert run_job(target, JobSpec(("true",)), tmp_path / "out").verdict == "no_space"
    assert left_on(target) == []


@pytest.mark.parametrize("name", ["a/b", "job.out", ".hidden", ""])
def test_names_that_a_job_cannot_have(name: str) -> None:
    with pytest.raises(DeviceError, match="is no name for a file of a job"):
        JobSpec(("true",), fetch=(name,))


def test_specs_that_cannot_run() -> None:
    with pytest.raises(DeviceError, match="needs a command"):
        JobSpec(())
    with pytest.raises(DeviceError, match="needs a second at least"):
        JobSpec(("true",), timeout_s=0)
