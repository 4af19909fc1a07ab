"""Accounts whose start file prints, or does more than that: it runs before each command."""

import shutil
from pathlib import Path, PurePosixPath

import pytest

from pocketlm.device_tests.device.external_tool import ToolRun, run_tool
from pocketlm.device_tests.device.shell_target import ShellTarget
from pocketlm.device_tests.device.target import Finished, LostDeviceError
from pocketlm.device_tests.device.targets.host import HostLink
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.job.lifecycle import run_job
from pocketlm.device_tests.job.values import JobSpec

SHELLS = [
    pytest.param(words, marks=pytest.mark.skipif(not shutil.which(words[0]), reason=f"no {words}"))
    for words in (("dash",), ("bash",), ("busybox", "ash"), ("mksh",), ("zsh",))
]
START_FILES = {
    "a line": "echo Welcome to the board",
    "no newline": "printf Welcome",
    "stderr": "echo Welcome >&2",
    "at logout": "trap 'echo Goodbye' EXIT",
    "escapes": "printf '\\033[1mWelcome\\033[0m\\n\\a'",
    "like a mark": "printf '@@begin 0123456789abcdef\\n\\n@@end 0123456789abcdef 0\\n@@ disk\\n'",
    "digits": "echo 12 34",
    "another folder": "cd /",
    "stops at errors": "set -e",
    "shows commands": "set -vx",
}


class StartedShell(HostLink):
    """A shell of this machine that runs a start file first, as adb's and sshd's do."""

    name = "greeting"

    def __init__(self, words: tuple[str, ...], start: str) -> None:
        self.words, self.start = words, start

    def call(self, text: str, timeout_s: float) -> ToolRun:
        return run_tool((*self.words, "-c", f"{self.start}\n{text}"), timeout_s=timeout_s)


@pytest.mark.parametrize("words", SHELLS)
@pytest.mark.parametrize("start", START_FILES.values(), ids=START_FILES)
def test_what_a_start_file_does_is_no_answer(
    words: tuple[str, ...], start: str, tmp_path: Path
) -> None:
    target = ShellTarget(StartedShell(words, start), PurePosixPath(tmp_path))
    assert target.run("echo hello; exit 3") == Finished(3, "hello\n")
    assert target.run("false") == Finished(1, "")
    facts = target.facts()
    assert facts.ram_bytes > 0 and facts.free_bytes > 0 and facts.kernel


def test_files_and_jobs_pass_a_start_file(tmp_path: Path) -> None:
    link = StartedShell(("sh",), "; ".join((START_FILES["a line"], START_FILES["at logout"])))
    target = ShellTarget(link, PurePosixPath(tmp_path / "there"))
    (tmp_path / "run.sh").write_text("echo begun; echo made > made")
    spec = JobSpec(("sh", "run.sh"), {"run.sh": tmp_path / "run.sh"}, fetch=("made",))
    lines: list[str] = []
    result = run_job(target, spec, tmp_path / "out", lines.append)
    assert (result.verdict, lines) == ("ok", ["begun"])
    assert result.files["made"].read_text() == "made\n"


def test_a_start_file_that_ends_the_shell_is_named(tmp_path: Path) -> None:
    for start in ("echo This account is closed; exit 0", "exec echo This account is closed"):
        target = ShellTarget(StartedShell(("sh",), start), PurePosixPath(tmp_path))
        with pytest.raises(DeviceError, match=r"printed 'This account is closed'.*\$- in") as error:
            target.run("true")
        assert not isinstance(error.value, LostDeviceError)


def test_a_silent_end_is_named_where_the_tool_tells_it_from_a_broken_connection(
    tmp_path: Path,
) -> None:
    link = StartedShell(("sh",), "exit 0")
    target = ShellTarget(link, PurePosixPath(tmp_path))
    with pytest.raises(LostDeviceError):
        target.run("true")
    link.broken_status = 255
    with pytest.raises(DeviceError, match="its shell did not run the command; a start file"):
        target.run("true")
    link.start = "exit 255"
    with pytest.raises(LostDeviceError):
        target.run("true")


@pytest.mark.parametrize("folder", ["Welcome", "Welcome to/the board", "", "/none/such", "/"])
def test_the_search_for_a_folder_that_exists_ends(folder: str) -> None:
    from pocketlm.device_tests.device.system_files import disk_command, read_free_bytes

    done = run_tool(("sh", "-c", disk_command(folder)), timeout_s=10)
    assert read_free_bytes(done.output) > 0
