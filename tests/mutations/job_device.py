"""A device whose answers stand in files, with one job that ended."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from unittest.mock import patch

from pocketlm.device_tests.device.target import Finished
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.job.script import AFTER, BEFORE, ERRORS, OUTPUT, SAMPLES, SPEC

JOB = "0f3a5b2c9d8e7f61"
STORED, STATE, LISTING = "stored.txt", "state.txt", "listing.txt"
_STATE = f"""
@@ there
yes
@@ begun
4711 1000
@@ running
@@ boot
c0ffee
@@ ended
{JOB} 0 0
@@ disk
Filesystem 1024-blocks Used Available Capacity Mounted on
/dev/root 1000 500 500 50% /
@@ end
0
@@ output
"""
_COUNTERS = """
@@ uptime
1000.25 1900.00
@@ vmstat
pswpout 0
pswpin 0
workingset_refault_file 0
oom_kill 4
@@ pressure
some avg10=0.00 avg60=0.00 avg300=0.00 total=0
full avg10=0.00 avg60=0.00 avg300=0.00 total=0
@@ waiting
some avg10=0.00 avg60=0.00 avg300=0.00 total=12
@@ meminfo
MemTotal: 8000000 kB
MemAvailable: 6000000 kB
@@ group
max
104857600
inactive_file 4096
@@ page
4096
@@ thermal_status
Thermal Status: 0
@@ temperatures
45000
@@ clocks_allowed
1500000
2000000
@@ clocks_possible
2000000
2000000
"""
_PHASE = {
    "event": "phase", "phase": "loaded", "clock_s": 1.5, "peak_bytes": 104857600,
    "peak_is_of_phase": True, "regions_are_counted": True,
    "regions": [{"part": "cache", "bytes": 4096, "resident_bytes": 4096, "swap_bytes": 0}],
    "mappings": [{"path": "/x", "resident_bytes": 8192, "anonymous_bytes": 4096, "dirty_bytes": 0,
                  "swap_bytes": 0}],
}  # fmt: skip
_START = {"event": "start", "clock_s": 0.5, "pid": 4711}
_RUNTIME = {"event": "runtime", "name": "onnxruntime", "version": "1.31.0", "kernels": "mlas"}
_LOADED = {"event": "loaded", "wall_s": 0.5}
_CALL = {
    "event": "run", "clock_s": 2.0, "wall_s": 0.01, "tokens": 1, "position": 3, "greedy_id": 7,
    "mean": 0.1, "std": 1.5,
}  # fmt: skip
_SAMPLE = {"clock_s": 1.0, "resident_bytes": 4096, "anonymous_bytes": 4096, "pressure_some_us": 1}
_RECORD = {"nonce": JOB, "fetch": ["more.json"], "timeout_s": 60, "boot_id": "c0ffee"}
_EVENTS = (_START, _RUNTIME, _LOADED, _PHASE, _CALL, {"event": "end"})
# Questions after which a job ends, whatever the file says: a job that never does is no fault.
_MOST_QUESTIONS = 20

FILES = {
    STORED: f"job {JOB} ended 12\nstored bundles/abc 1000\nstored runners/def 20\n",
    STATE: _STATE,
    LISTING: "\n".join((OUTPUT, ERRORS, SAMPLES, BEFORE, AFTER, "more.json")) + "\n",
    SPEC: json.dumps(_RECORD),
    OUTPUT: "".join(f"{json.dumps(event)}\n" for event in _EVENTS),
    ERRORS: "a warning\n",
    SAMPLES: f"{json.dumps(_SAMPLE)}\n",
    BEFORE: _COUNTERS,
    AFTER: _COUNTERS,
    "more.json": "{}",
}


class JobDevice:
    """Answers from files, by what is asked."""

    name = "double"
    folder = PurePosixPath("/data/pocketlm")

    def __init__(self, files: Path) -> None:
        self.files = files
        self.questions = 0

    def run(self, command: str, *, timeout_s: float = 30) -> Finished:
        if "stored $stored" in command:
            return self._answer(STORED)
        if "@@ there" in command:
            self.questions += 1
            if self.questions > _MOST_QUESTIONS:
                return Finished(0, _STATE)
            return self._answer(STATE)
        if command.startswith("cat ") and command.endswith(SPEC):
            return self._answer(SPEC)
        if "for f in" in command:
            return self._answer(LISTING)
        return Finished(0, "")

    def fetch(self, place: PurePosixPath, out: Path) -> None:
        path = self.files / place.name
        if not path.is_file():
            raise DeviceError(f"{self.name}: there is no {place}")
        out.write_bytes(path.read_bytes())

    def close(self) -> None: ...

    def _answer(self, name: str) -> Finished:
        return Finished(0, (self.files / name).read_bytes().decode("utf-8", "replace"))


class _Clock:
    """A clock that goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@contextmanager
def job_device(files: Path) -> Iterator[None]:
    """Open this device, whatever target is asked for; waiting takes no time."""
    clock = _Clock()
    with (
        patch("pocketlm.device_tests.device.targets.open_target", lambda name: JobDevice(files)),
        patch("pocketlm.device_tests.job.watcher.time", clock),
        patch("pocketlm.device_tests.device.retry.time", clock),
    ):
        yield
