"""Jobs on this machine that outlive a connection, or a restart, and what collects them."""

import os
import signal
from pathlib import Path

import pytest

from pocketlm.device_tests.device.external_tool import ToolRun, ToolTimeoutError
from pocketlm.device_tests.device.shell_target import ShellTarget
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.job import state
from pocketlm.device_tests.job.lifecycle import collect_job, job_folder, run_job, stop_job
from pocketlm.device_tests.job.script import OUTPUT
from pocketlm.device_tests.job.values import JobResult, JobSpec
from tests.device_tests.broken_link import BROKEN, BrokenLink, broken_target
from tests.device_tests.job.shells import RUN, Script, is_alive, left_on, wait_until

WAITS = "echo begun; while [ ! -e go ]; do sleep 0.05; done; echo ended"


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


@pytest.mark.parametrize("fault", [BROKEN, ToolRun(0, "", ""), None])
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


def processes_of(folder: Path) -> list[int]:
    """Return the process ids of a job's shell and its runner."""
    return [int((folder / name).read_text().split()[0]) for name in ("job.pid", "job.runner")]


def test_lost_job_goes_on_and_is_collected_later(
    target: ShellTarget, link: BrokenLink, tmp_path: Path, script: Script
) -> None:
    spec = JobSpec(RUN, script(WAITS), fetch=("go",), timeout_s=60)
    lost = lose(target, link, spec, tmp_path / "out")
    assert (lost.verdict, lost.status) == ("lost_device", None)
    assert "couldn't read from device" in lost.reason
    assert f"pocketlm jobs collect {lost.nonce} --on broken" in lost.reason
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
    shell, runner = processes_of(Path(job_folder(target, lost.nonce)))
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
    shell, runner = processes_of(Path(job_folder(target, lost.nonce)))
    # The shell first: without its runner it would end by itself.
    os.killpg(shell, signal.SIGKILL)
    os.killpg(runner, signal.SIGKILL)
    wait_until(lambda: not is_alive(shell))
    (tmp_path / "boot id").write_text("another\n")
    monkeypatch.setattr(state, "_BOOT_ID", f"'{tmp_path}/boot id'")
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
        for process in processes_of(folder):
            os.killpg(process, signal.SIGKILL)
        # What was written last never came to the disk.
        (folder / "job.pid").write_text("")
        monkeypatch.setattr(state, "_BOOT_ID", f"'{tmp_path}/boot id'")

    result = run_job(target, JobSpec(RUN, script(WAITS)), tmp_path / "out", restart)
    assert result.verdict == "lost_device"
    assert "it restarted during the run" in result.reason
    assert left_on(target) == []


def test_lost_before_the_start_is_a_verdict(
    target: ShellTarget, link: BrokenLink, tmp_path: Path
) -> None:
    link.fault = lambda kind, what: BROKEN
    result = run_job(target, JobSpec(("true",)), tmp_path / "out", reconnect_s=0.3)
    assert result.verdict == "lost_device"
    assert result.reason == ("broken: the connection broke (couldn't read from device); mend it")


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


def test_job_of_another_pocketlm_is_not_collected(target: ShellTarget, tmp_path: Path) -> None:
    folder = Path(job_folder(target, "old"))
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{}")
    with pytest.raises(DeviceError, match="is of another pocketlm"):
        collect_job(target, "old", tmp_path / "out")
