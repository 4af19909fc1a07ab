"""A job as values: what to run on a device, and how it ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pocketlm.device_tests.device.system_counters import SystemCounters
from pocketlm.device_tests.device.thermal import ThermalState
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.job.verdict import Verdict
from pocketlm.runtime_py.typed_json import FieldError


@dataclass(frozen=True)
class JobSpec:
    """What to run on a device.

    Attributes:
        command: words; it runs in a folder of its own, where `files` stand beside it.
        files: name there → file here. Large files that stay are sent before, by `Target.send`.
        companion: words of a program that runs as long as the command; `script.PID` among them
            stands for the command's process. Its output is fetched.
        fetch: names of files there that are wanted here afterwards, as far as they exist.
        note: of whoever runs it, for whoever collects it; plain JSON that no job reads.
    """

    command: tuple[str, ...]
    files: Mapping[str, Path] = field(default_factory=dict)
    companion: tuple[str, ...] = ()
    fetch: tuple[str, ...] = ()
    timeout_s: int = 600
    note: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.command:
            raise DeviceError("a job needs a command")
        if self.timeout_s < 1:
            raise DeviceError(f"a job of {self.timeout_s} s: it needs a second at least")
        for name in (*self.files, *self.fetch):
            if not _is_name(name):
                raise DeviceError(
                    f"{name!r} is no name for a file of a job: no folders, nothing hidden, and "
                    "names that begin with 'job.' are taken"
                )


@dataclass(frozen=True)
class JobResult:
    """How a job ended, and what it left.

    Attributes:
        nonce: what `collect_job` takes, where the verdict is "lost_device".
        reason: the verdict in a sentence, with what to do.
        status: the runner's own; None where it is not known.
        files: name → file here: OUTPUT, ERRORS, SAMPLES and what was asked for, where it exists.
    """

    nonce: str
    verdict: Verdict
    reason: str
    status: int | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    counters_before: SystemCounters = field(default_factory=SystemCounters)
    counters_after: SystemCounters = field(default_factory=SystemCounters)
    thermal_before: ThermalState = field(default_factory=ThermalState)
    thermal_after: ThermalState = field(default_factory=ThermalState)


@dataclass(frozen=True)
class JobRecord:
    """What is needed to pick a job up later; it lies with the job.

    Attributes:
        boot_id: of the device, before the job began.
        note: the spec's.

    Raises:
        FieldError: a name is none of a job's files, or the time is none.
    """

    nonce: str
    fetch: tuple[str, ...]
    timeout_s: int
    boot_id: str
    note: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A device may hold any text: no name leads out of the folder for what is fetched.
        for name in self.fetch:
            if not _is_name(name):
                raise FieldError(f"fetch: {name!r} is no name for a file of a job")
        if self.timeout_s < 1:
            raise FieldError(f"timeout_s: {self.timeout_s} is less than a second")


def _is_name(name: str) -> bool:
    return bool(name) and "/" not in name and not name.startswith(("job.", "."))
