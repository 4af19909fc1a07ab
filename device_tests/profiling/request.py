"""What `profile` is asked: from a bundle's folder and a device's name to a report.

The command takes its defaults from here, so heavy libraries load only with the answer.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pocketlm.runtime_py.bundle import Bundle

if TYPE_CHECKING:
    from pocketlm.device_tests.device.target import Target
    from pocketlm.device_tests.profiling.document import Report
    from pocketlm.device_tests.profiling.measured_run import Workload
    from pocketlm.device_tests.profiling.pipeline import ProgressCallbacks

_MOST_THREADS = 4
_PROMPT_TOKENS = 512
DECODE_TOKENS = 64
TIMEOUT_S = 1800


@dataclass(frozen=True)
class ProfileRequest:
    """A question.

    Attributes:
        target: "adb", "adb:SERIAL", "ssh:HOST" or "host".
        backend: None is the bundle's first by name.
        prompt_tokens: to prefill; None is 512, or what the context has room for.
        threads: None is the device's cores, at most 4.
        packed_cache: map packed weights from a file, where the backend can.
        answers: whether the golden answers are replayed.
    """

    bundle: Bundle | Path | str
    target: str
    backend: str | None = None
    prompt_tokens: int | None = None
    decode_tokens: int = DECODE_TOKENS
    threads: int | None = None
    packed_cache: bool = False
    answers: bool = True
    timeout_s: int = TIMEOUT_S


def run_profile(request: ProfileRequest, progress: "ProgressCallbacks") -> "Report":
    """Run a bundle on a device and account for its memory.

    Raises:
        DeviceError, RunError: what was asked cannot be run, or no device answers.
    """
    from pocketlm.device_tests.device.targets import open_target
    from pocketlm.device_tests.packed_cache import require_packed_cache
    from pocketlm.device_tests.profiling.measured_run import check_tokens, prompt_of
    from pocketlm.device_tests.profiling.pipeline import profile
    from pocketlm.runtime_py.bundle import open_bundle

    bundle = request.bundle
    if not isinstance(bundle, Bundle):
        bundle = open_bundle(bundle)
    names = sorted(bundle.manifest.backends)
    backend = request.backend or names[0]
    bundle.backend(backend)
    if request.packed_cache:
        require_packed_cache((backend,))
    prompt_tokens = request.prompt_tokens
    if prompt_tokens is None:
        room = bundle.manifest.context_length - request.decode_tokens
        prompt_tokens = max(1, min(_PROMPT_TOKENS, room))
    check_tokens(bundle, prompt_tokens, request.decode_tokens)
    target = open_target(request.target)
    try:
        load = _workload(request, backend, prompt_of(bundle, backend, prompt_tokens), target)
        return profile(target, bundle, load, progress)
    finally:
        target.close()


def _workload(
    request: ProfileRequest, backend: str, prompt_ids: tuple[int, ...], target: "Target"
) -> "Workload":
    from pocketlm.device_tests.profiling.measured_run import Workload

    return Workload(
        backend=backend,
        prompt_ids=prompt_ids,
        decode_tokens=request.decode_tokens,
        threads=request.threads or min(_MOST_THREADS, target.facts().cores),
        answers=request.answers,
        packed_cache=request.packed_cache,
        timeout_s=request.timeout_s,
    )
