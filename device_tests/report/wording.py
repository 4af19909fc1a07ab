"""Sentences about a verdict and about where a report comes from."""

from typing import Literal

from pocketlm.device_tests.device.facts import Provenance
from pocketlm.device_tests.job.verdict import Verdict

TIMES_HIDDEN = "times are emulated, not shown"
EMULATED_TIMES = "Times are the emulator's and say nothing of a device, so none are shown."

Tone = Literal["good", "caution", "bad"]

_CAUTION: tuple[Verdict, ...] = ("under_pressure", "throttled")

_MEANING: dict[Verdict, str] = {
    "ok": "Ran to its end. What was measured stands.",
    "wrong_answers": "Ran to its end, with answers that are not the bundle's. "
    "Sizes and times stand.",
    "under_pressure": "Ran to its end while the system took memory back. "
    "Sizes are too small: the run needs more than was seen.",
    "throttled": "Ran to its end, ever slower or hot. Times are too long; sizes stand.",
    "oom_killed": "Killed: out of memory. What was seen before stands, the peak does not.",
    "killed_unknown": "Killed, and nothing says why. What was seen before is all there is.",
    "illegal_instruction": "Compiled for another processor. Nothing was measured.",
    "crashed": "A fault in the runner. What was seen before is all there is.",
    "runner_error": "The runner gave up. What was seen before is all there is.",
    "timeout": "Not done in the time allowed. What was seen before is all there is.",
    "lost_device": "The device went away. What was seen before is all there is.",
    "no_space": "The device's disk is full. Nothing was measured.",
    "permission": "The device does not let us. Nothing was measured.",
    "unauthorized": "The device does not know this computer. Nothing was measured.",
}

_PROVENANCE: dict[Provenance, str] = {
    "real": "A real device. Sizes and times are its own.",
    "host": "This computer. Sizes and times are its own, and no phone's.",
    "qemu-system": "Emulated device: memory is the guest kernel's own; times are the emulator's.",
    "qemu-user": "Emulated programs: memory is inflated by the emulator, "
    "which lives in the same process; times are the emulator's.",
}


def meaning(verdict: Verdict) -> str:
    """Return what a verdict says of the figures."""
    return _MEANING[verdict]


def provenance_text(provenance: Provenance) -> str:
    """Return how far figures can be trusted."""
    return _PROVENANCE[provenance]


def provenance_stamp(provenance: Provenance) -> str:
    """Return what has to stand on every figure of an emulated run; empty for others."""
    stamps: dict[Provenance, str] = {
        "qemu-system": "emulated device: memory is the guest kernel's own",
        "qemu-user": "emulated programs: memory is inflated",
    }
    return stamps.get(provenance, "")


def tone(verdict: Verdict) -> Tone:
    """Return whether a verdict is good news."""
    if verdict == "ok":
        return "good"
    return "caution" if verdict in _CAUTION else "bad"


def verdict_words(verdict: Verdict) -> str:
    """Return a verdict as people read it: "oom killed"."""
    return verdict.replace("_", " ")
