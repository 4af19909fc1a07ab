"""Jobs as shell scripts, and what is left of them, for several test modules."""

import time
from collections.abc import Callable
from pathlib import Path

from pocketlm.device_tests.device.shell_target import ShellTarget

Script = Callable[[str], dict[str, Path]]
RUN = ("sh", "run.sh")
DEADLINE_S = 30


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
