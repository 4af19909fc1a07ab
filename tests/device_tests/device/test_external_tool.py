"""Programs of this machine: their streams, their time, what they leave behind."""

import time
from pathlib import Path

import pytest

from pocketlm.device_tests.device.external_tool import ToolRun, ToolTimeoutError, run_tool


def sh(script: str, timeout_s: float = 20) -> ToolRun:
    return run_tool(("/bin/sh", "-c", script), timeout_s=timeout_s)


def test_streams_and_status_come_back() -> None:
    assert sh("echo out; echo err >&2; exit 4") == ToolRun(4, "out\n", "err\n")


def test_input_is_empty_or_a_file(tmp_path: Path) -> None:
    assert sh("cat; echo end").output == "end\n"
    (tmp_path / "in").write_text("text")
    out = tmp_path / "out"
    done = run_tool(("cat",), timeout_s=20, source=tmp_path / "in", out=out)
    assert (done.output, out.read_text()) == ("", "text")


def test_messages_are_in_english() -> None:
    assert sh("echo $LC_ALL").output == "C\n"


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert sh(r"printf 'a\377b'").output == "a�b"


def test_a_program_that_hangs_is_killed(tmp_path: Path) -> None:
    place = tmp_path / "pid"
    with pytest.raises(ToolTimeoutError):
        sh(f"echo $$ > {place}; exec sleep 60", timeout_s=0.5)
    assert not Path("/proc", place.read_text().strip()).exists()


def test_a_server_left_behind_holds_nobody_up() -> None:
    begin = time.monotonic()
    done = sh("sleep 30 & echo $!")
    assert time.monotonic() - begin < 20
    run_tool(("kill", done.output.strip()), timeout_s=5)


def test_a_missing_program_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        run_tool(("/no/such/program",), timeout_s=5)
