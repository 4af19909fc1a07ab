"""How a job ended → one verdict, and a sentence that says why and what to do. A pure function."""

import re
from dataclasses import dataclass

from pocketlm.device_tests.device.shell import NO_SPACE, read_sections
from pocketlm.device_tests.device.system_counters import (
    RunnerMemory,
    SystemCounters,
    had_company,
    increase,
    pressure_reason,
    read_counters,
)
from pocketlm.device_tests.device.system_files import read_free_bytes
from pocketlm.device_tests.device.thermal import ThermalState, read_thermal, throttling_reason
from pocketlm.device_tests.job.verdict import Verdict
from pocketlm.device_tests.memory.events import RunEvents, read_events
from pocketlm.device_tests.memory.samples import read_samples

ENDED = "the runner came to its end"
RUNNER_ERROR = 3  # the status with which a runner says that it cannot go on
_SIGNAL = 128
_ILLEGAL, _KILL = 4, 9
_FAULTS = {
    5: "stopped at a breakpoint (SIGTRAP)",
    6: "gave up (SIGABRT)",
    7: "accessed a file or an address wrongly (SIGBUS)",
    8: "calculated what cannot be (SIGFPE)",
    11: "accessed memory that is not its own (SIGSEGV)",
    31: "made a system call that this system forbids (SIGSYS)",
}
# Those of a processor's features that kernels for 4-bit and 8-bit weights are compiled for.
_TELLING = (
    "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2", "sme", "sme2",
    "sse4_2", "avx", "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8",
)  # fmt: skip
# So little is left where a write has failed before the job's reserve was freed.
_FULL_BYTES = 65536


@dataclass(frozen=True)
class Ending:
    """What is known of a job that ended on the device.

    Attributes:
        status: of the runner, 128 + n after signal n; None where the job's own shell died too.
        late: whether the job killed its runner because its time was up.
        output, errors: what the runner wrote.
        samples: what the sampler saw of it.
        before, after: what the job wrote down of the device.
        free_bytes: of the disk, when the job was found.
    """

    status: int | None
    late: bool
    timeout_s: float
    output: str = ""
    errors: str = ""
    before: str = ""
    after: str = ""
    samples: str = ""
    free_bytes: int | None = None


@dataclass(frozen=True)
class Outcome:
    """One verdict.

    Attributes:
        reason: a sentence, with what to do where something is to be done.
    """

    verdict: Verdict
    reason: str
    counters_before: SystemCounters
    counters_after: SystemCounters
    thermal_before: ThermalState
    thermal_after: ThermalState


def outcome_of(ending: Ending) -> Outcome:
    """Say how a job ended."""
    run = read_events(ending.output)
    before, after = read_counters(ending.before), read_counters(ending.after)
    cool, warm = read_thermal(ending.before), read_thermal(ending.after)
    verdict, reason = _failure(ending, run, increase(before.oom_kills, after.oom_kills))
    if verdict == "ok":
        pressure = pressure_reason(before, after, _runner_memory(run, ending.samples))
        decode_s = [call.wall_s for call in run.measured_calls if call.tokens == 1]
        if had_company(before, after):
            decode_s = []  # what slowed it down was not heat
        throttling = throttling_reason(cool, warm, decode_s)
        if pressure:
            verdict, reason = "under_pressure", (
                f"it ran to its end, but the device was short of memory: {pressure}; sizes are too "
                "small: close other apps, or choose a smaller bundle or context"
            )  # fmt: skip
        elif throttling:
            verdict, reason = "throttled", (
                f"it ran to its end, but not at full speed: {throttling}; times are too long: let "
                "the device cool down and take it off its charger"
            )  # fmt: skip
    return Outcome(verdict, reason, before, after, cool, warm)


def _runner_memory(run: RunEvents, text: str) -> RunnerMemory:
    samples = read_samples(text, run.start_s)
    swapped = [phase.swap_bytes for phase in run.phases]
    swapped += [sample.swap_bytes for sample in samples if sample.swap_bytes is not None]
    available = [s.available_bytes for s in samples if s.available_bytes is not None]
    return RunnerMemory(
        peak_bytes=max((phase.peak_bytes for phase in run.phases), default=None),
        swapped_bytes=max(swapped, default=None),
        least_available_bytes=min(available, default=None),
    )


def _failure(ending: Ending, run: RunEvents, oom_kills: float) -> tuple[Verdict, str]:
    status = ending.status
    far = f" after phase {run.phases[-1].phase!r}" if run.phases else " before its first phase"
    if ending.late and status != 0:
        return "timeout", (
            f"the runner was not done within {ending.timeout_s:.0f} s and was stopped{far}; "
            "allow more time, or feed and decode fewer tokens"
        )
    if _is_full(ending, run):
        return "no_space", "the device's disk was full during the run; free some space on it"
    if status is None:
        return _killed(ending, far, oom_kills, "the runner and the job's own shell were killed")
    if status == 0:
        return "ok", ENDED
    if status == RUNNER_ERROR and run.error:
        return "runner_error", f"the runner says: {run.error}"
    if status == 126:
        return "permission", (
            f"the runner may not be executed: {_last_line(ending.errors)}; its disk may forbid "
            "programs (noexec), or it is for another processor"
        )
    if status == 127:
        return "runner_error", (
            f"the runner, its loader or a library is missing: {_last_line(ending.errors)}; "
            "send the runner's whole folder"
        )
    if status > _SIGNAL:
        return _signalled(ending, status - _SIGNAL, far, oom_kills)
    said = _last_line(ending.errors)
    return "runner_error", f"the runner ended with status {status}{far}: {said}"


def _signalled(ending: Ending, signal: int, far: str, oom_kills: float) -> tuple[Verdict, str]:
    if signal == _ILLEGAL:
        features = read_sections(ending.after).get("features", "").partition(":")[2].split()
        shown = " ".join(name for name in features if name in _TELLING) or "the basic ones"
        return "illegal_instruction", (
            f"the runner used an instruction that this processor lacks{far}; compile it for a "
            f"processor with no more than {shown}"
        )
    if signal in _FAULTS:
        said = f": {_last_line(ending.errors)}" if ending.errors.strip() else ""
        return "crashed", f"the runner {_FAULTS[signal]}{far}{said}; this is a fault in the runner"
    if signal == _KILL:
        return _killed(ending, far, oom_kills, "the runner was killed")
    return "killed_unknown", (
        f"signal {signal} ended the runner{far}, and nothing says who sent it; run it again"
    )


def _killed(ending: Ending, far: str, oom_kills: float, what: str) -> tuple[Verdict, str]:
    found = read_sections(ending.after)
    logs = (found.get("low_memory_log", ""), found.get("kernel_log", ""))
    said = next((_last_line(log) for log in logs if log.strip()), "")
    if said or oom_kills:
        evidence = said or f"the kernel counts {oom_kills:.0f} more kills for memory than before"
        return "oom_killed", (
            f"{what} (out of memory){far}: {evidence}; close other apps, or choose a smaller "
            "bundle or context"
        )
    return "killed_unknown", (
        f"{what}{far}, and neither kernel nor system log says why; most often it is memory: close "
        "other apps and run it again"
    )


def _is_full(ending: Ending, run: RunEvents) -> bool:
    if NO_SPACE in run.error or NO_SPACE in ending.errors:
        return True
    disk = read_sections(ending.after).get("disk", "")
    free_bytes = read_free_bytes(disk) if re.search(r"\d%", disk) else ending.free_bytes
    return free_bytes is not None and free_bytes < _FULL_BYTES


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip()[-300:] if lines else "it says nothing"
