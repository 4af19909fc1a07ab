"""Jobs on this machine: how they end, and how they outlive a connection."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from device_tests import job_attendance, job_state, transfer
from device_tests.errors import DeviceError
from device_tests.external_tool import ToolRun, ToolTimeoutError
from device_tests.job import collect_job, job_folder, run_job, stop_job
from device_tests.job_script import ERRORS, OUTPUT, PID, SAMPLES
from device_tests.job_values import JobResult, JobSpec
from device_tests.shell_target import ShellTarget
from device_tests.verdict import Verdict
from tests.device_tests.broken_link import BROKEN, BrokenLink, broken_target

DEADLINE_S = 30


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "RECONNECT_S", 0.3)


@pytest.fixture
def link() -> BrokenLink:
    return BrokenLink()


@pytest.fixture
def target(tmp_path: Path, link: BrokenLink) -> ShellTarget:
    return broken_target(tmp_path / "device folder", link, 10**6)


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], dict[str, Path]]:
    """Return a function: text of a shell script → the files of a job that runs it."""

    def write(text: str) -> dict[str, Path]:
        (tmp_path / "run.sh").write_text(text)
        return {"run.sh": tmp_path / "run.sh"}

    return write


Script = Callable[[str], dict[str, Path]]
RUN = ("sh", "run.sh")


def left_on(target: ShellTarget) -> list[str]:
    return sorted(path.name for path in Path(target.folder).rglob("*") if path.is_file())


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:4]
    except OSError:
        return False


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
    monkeypatch.setattr(job_attendance, "_LATE_S", -59.5)
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

    monkeypatch.setattr(job_attendance, "_BEGIN_S", 0.3)
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


class Outage:
    """A connection that breaks when a job says a word, for some calls.

    Attributes:
        calls: that fail; after them the connection is back.
    """

    def __init__(self, watched: Path, calls: int, fault: ToolRun | None = BROKEN) -> None:
        self.watched, self.calls, self.fault = watched, calls, fault

    def __call__(self, kind: str, what: str) -> ToolRun | None:
        if not self.calls or not any(p.stat().st_size for p in self.watched.rglob("job.out")):
            return None
        self.calls -= 1
        if self.fault is None:
            raise ToolTimeoutError
        return self.fault


WAITS = "echo begun; while [ ! -e go ]; do sleep 0.05; done; echo ended"


@pytest.mark.parametrize("fault", [BROKEN, ToolRun(0, "cut", ""), None])
def test_connection_that_comes_back_costs_nothing(
    fault: ToolRun | None, target: ShellTarget, link: BrokenLink, tmp_path: Path, script: Script
) -> None:
    files = script("echo begun; sleep 0.5; echo ended")
    link.fault = Outage(Path(target.folder), 2, fault)
    lines: list[str] = []
    result = run_job(target, JobSpec(RUN, files, timeout_s=60), tmp_path / "out", lines.append)
    assert result.verdict == "ok"
    assert lines == ["begun", "ended"]


def lose(target: ShellTarget, link: BrokenLink, spec: JobSpec, out: Path) -> JobResult:
    """Run a job, and lose the connection as soon as it has said a word."""
    link.fault = Outage(Path(target.folder), 10**6)
    result = run_job(target, spec, out, reconnect_s=0.3)
    link.fault = lambda kind, what: None
    return result


def test_lost_job_goes_on_and_is_collected_later(
    target: ShellTarget, link: BrokenLink, tmp_path: Path, script: Script
) -> None:
    spec = JobSpec(RUN, script(WAITS), fetch=("go",), timeout_s=60)
    lost = lose(target, link, spec, tmp_path / "out")
    assert (lost.verdict, lost.status) == ("lost_device", None)
    assert "couldn't read from device" in lost.reason
    assert f"job {lost.nonce} goes on there and can be collected later" in lost.reason
    Path(job_folder(target, lost.nonce), "go").touch()
    lines: list[str] = []
    result = collect_job(target, lost.nonce, tmp_path / "out", lines.append)
    assert (result.nonce, result.verdict) == (lost.nonce, "ok")
    assert lines == ["begun", "ended"]
    assert result.files["go"].exists()
    assert left_on(target) == []
    with pytest.raises(DeviceError, match=r"there is no job .* it was collected, stopped or remov"):
        collect_job(target, lost.nonce, tmp_path / "out")


def test_two_jobs_at_a_time_are_refused(
    target: ShellTarget, link: BrokenLink, tmp_path: Path, script: Script
) -> None:
    lost = lose(target, link, JobSpec(RUN, script(WAITS), timeout_s=60), tmp_path / "out")
    with pytest.raises(DeviceError, match=f"job {lost.nonce} is still running there"):
        run_job(target, JobSpec(("true",)), tmp_path / "out")
    stop_job(target, lost.nonce)
    assert left_on(target) == []
    assert run_job(target, JobSpec(("true",)), tmp_path / "out").verdict == "ok"


def test_ended_job_waits_for_its_collector(
    target: ShellTarget, link: BrokenLink, tmp_path: Path, script: Script
) -> None:
    lost = lose(target, link, JobSpec(RUN, script("echo 1; sleep 0.3")), tmp_path / "out")
    done = Path(job_folder(target, lost.nonce), "job.done")
    wait_until(done.exists)
    assert run_job(target, JobSpec(("true",)), tmp_path / "next").verdict == "ok"
    assert collect_job(target, lost.nonce, tmp_path / "out").verdict == "ok"
    assert left_on(target) == []


def test_dead_jobs_are_removed_at_the_next_start(
    target: ShellTarget, link: BrokenLink, tmp_path: Path, script: Script
) -> None:
    lost = lose(target, link, JobSpec(RUN, script(WAITS), timeout_s=60), tmp_path / "out")
    folder = Path(job_folder(target, lost.nonce))
    shell, runner = (
        int((folder / name).read_text().split()[0]) for name in ("job.pid", "job.runner")
    )
    os.kill(shell, signal.SIGKILL)
    wait_until(lambda: not is_alive(shell))
    assert run_job(target, JobSpec(("true",)), tmp_path / "out").verdict == "ok"
    assert left_on(target) == []
    wait_until(lambda: not is_alive(runner))


def test_process_of_another_with_the_same_number_is_no_live_job(
    target: ShellTarget, tmp_path: Path
) -> None:
    folder = Path(job_folder(target, "old"))
    folder.mkdir(parents=True)
    # This process has that number, but did not start then.
    (folder / "job.pid").write_text(f"{os.getpid()} 12345\n")
    (folder / "job.runner").write_text(f"{os.getpid()} 12345\n")
    assert run_job(target, JobSpec(("true",)), tmp_path / "out").verdict == "ok"
    assert not folder.exists()


def test_restart_of_the_device_is_recognized(
    target: ShellTarget,
    link: BrokenLink,
    tmp_path: Path,
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = lose(target, link, JobSpec(RUN, script(WAITS), timeout_s=60), tmp_path / "out")
    folder = Path(job_folder(target, lost.nonce))
    shell, runner = (
        int((folder / name).read_text().split()[0]) for name in ("job.pid", "job.runner")
    )
    # The shell first: without its runner it would end by itself.
    os.killpg(shell, signal.SIGKILL)
    os.killpg(runner, signal.SIGKILL)
    wait_until(lambda: not is_alive(shell))
    (tmp_path / "boot id").write_text("another\n")
    monkeypatch.setattr(job_state, "_BOOT_ID", f"'{tmp_path}/boot id'")
    result = collect_job(target, lost.nonce, tmp_path / "out")
    assert result.verdict == "lost_device"
    assert "it restarted during the run" in result.reason
    assert left_on(target) == []


def test_restart_that_took_the_jobs_files_is_recognized(
    target: ShellTarget, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "boot id").write_text("another\n")

    def restart(line: str) -> None:
        (folder,) = Path(target.folder, "jobs").iterdir()
        runner = int((folder / "job.runner").read_text().split()[0])
        os.killpg(int((folder / "job.pid").read_text().split()[0]), signal.SIGKILL)
        os.killpg(runner, signal.SIGKILL)
        # What was written last never came to the disk.
        (folder / "job.pid").write_text("")
        monkeypatch.setattr(job_state, "_BOOT_ID", f"'{tmp_path}/boot id'")

    result = run_job(target, JobSpec(RUN, script(WAITS)), tmp_path / "out", restart)
    assert result.verdict == "lost_device"
    assert "it restarted during the run" in result.reason
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


def test_lost_before_the_start_is_a_verdict(
    target: ShellTarget, link: BrokenLink, tmp_path: Path
) -> None:
    link.fault = lambda kind, what: BROKEN
    result = run_job(target, JobSpec(("true",)), tmp_path / "out", reconnect_s=0.3)
    assert result.verdict == "lost_device"
    assert result.reason == ("broken: the connection broke (couldn't read from device); mend it")


def test_refused_before_the_start_is_a_verdict(
    target: ShellTarget, link: BrokenLink, tmp_path: Path
) -> None:
    link.fault = lambda kind, what: ToolRun(1, "", "device unauthorized.")
    assert run_job(target, JobSpec(("true",)), tmp_path / "out").verdict == "unauthorized"
    full = ToolRun(1, "", "remote write failed: No space left on device")
    link.fault = lambda kind, what: full if kind == "push" else None
    assert run_job(target, JobSpec(("true",)), tmp_path / "out").verdict == "no_space"
    assert left_on(target) == []


def test_answer_that_was_lost_starts_one_job(
    target: ShellTarget, link: BrokenLink, tmp_path: Path, script: Script
) -> None:
    class Deaf(BrokenLink):
        """Does what it is told, and its first answer to a start gets lost."""

        def call(self, text: str, timeout_s: float) -> ToolRun:
            done = super().call(text, timeout_s)
            first = "nohup" in text and self.count("call", "nohup") == 1
            return ToolRun(0, "", "") if first else done

    (tmp_path / "count").touch()
    files = script(f"echo run >> {tmp_path}/count")
    deaf = broken_target(tmp_path / "device", Deaf(), 10**6)
    assert run_job(deaf, JobSpec(RUN, files), tmp_path / "out").verdict == "ok"
    assert (tmp_path / "count").read_text() == "run\n"


def test_results_that_cannot_be_kept_here_stay_there(
    target: ShellTarget, tmp_path: Path, script: Script
) -> None:
    # A folder where a file should go.
    (tmp_path / "out" / OUTPUT).mkdir(parents=True)
    with pytest.raises(OSError):
        run_job(target, JobSpec(RUN, script("echo 1")), tmp_path / "out")
    (folder,) = Path(target.folder, "jobs").iterdir()
    result = collect_job(target, folder.name, tmp_path / "elsewhere")
    assert result.files[OUTPUT].read_text() == "1\n"
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


def test_job_of_another_pocketlm_is_not_collected(target: ShellTarget, tmp_path: Path) -> None:
    folder = Path(job_folder(target, "old"))
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{}")
    with pytest.raises(DeviceError, match="is of another pocketlm"):
        collect_job(target, "old", tmp_path / "out")
