"""How a run ended, as one word that programs can branch on."""

from typing import Literal

Verdict = Literal[
    "ok",
    "wrong_answers",  # ran to its end, but not with the bundle's golden answers
    "under_pressure",  # ran to its end while the system reclaimed memory: sizes are too small
    "throttled",  # ran to its end, ever slower or hot: times are too long
    "oom_killed",  # killed, and the kernel or the low-memory daemon says that memory was why
    "killed_unknown",  # killed, and nothing says why
    "illegal_instruction",  # compiled for another processor
    "crashed",  # a fault in the runner
    "runner_error",  # the runner says itself why it cannot go on
    "timeout",
    "lost_device",
    "no_space",
    "permission",
    "unauthorized",
]
# With these, what was measured stands.
MEASURED: tuple[Verdict, ...] = ("ok", "wrong_answers", "under_pressure", "throttled")
