"""Whether this process is ours to tune: a command's is, a host's that runs us as a library is not.

What counts as tuning: thresholds of the allocator, threads of the BLAS that torch loads, threads of
ExecuTorch's pool, where file descriptor 2 leads. A setting that can be put back within a call, such
as a variable that a runtime reads when a session is made, is no tuning.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_MAY_TUNE = ContextVar("pocketlm_may_tune_process", default=False)


def may_tune_process() -> bool:
    """Say whether what we load may change settings of the whole process."""
    return _MAY_TUNE.get()


@contextmanager
def process_tuning(allowed: bool = True) -> Iterator[None]:
    """Allow it within the block; what was changed stays so. False leaves it as it is around."""
    before = _MAY_TUNE.set(allowed or _MAY_TUNE.get())
    try:
        yield
    finally:
        _MAY_TUNE.reset(before)
