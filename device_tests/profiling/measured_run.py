"""One run of a bundle on a device, as values: commands of the runner, and what it wrote."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from pocketlm.device_tests.device.target import Target
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.job.lifecycle import run_job
from pocketlm.device_tests.job.script import OUTPUT, PID, SAMPLES
from pocketlm.device_tests.job.values import JobResult, JobSpec
from pocketlm.device_tests.memory.dumpsys import ProcessMemory, ask_process_memory
from pocketlm.device_tests.memory.events import RunEvents, Watch, read_events
from pocketlm.device_tests.memory.samples import read_samples
from pocketlm.device_tests.memory.values import END_OF_RUN, Sample
from pocketlm.device_tests.profiling import golden_answers
from pocketlm.device_tests.runners.payload import Payload
from pocketlm.device_tests.runners.upload import Uploaded
from pocketlm.runtime_py import verification
from pocketlm.runtime_py.bundle import Bundle

SCRIPT, LOGITS = "script.txt", "logits.bin"
# Loads the model and runs nothing: what it packs is left in the file.
PACKING = ("reset",)
PREFILLED, ANSWERED = "prefilled", "answered"
# Twenty samples a second, and the sizes that the kernel has to add up first twice a second.
_SAMPLE_MS, _ROLLUP_EVERY = 50, 10


@dataclass(frozen=True)
class Workload:
    """What is run.

    Attributes:
        prompt_ids: fed first, in chunks.
        decode_tokens: fed back one by one after it.
        answers: whether the golden answers are replayed afterwards.
        packed_cache: whether packed weights are kept in a file and mapped, where the backend can.
    """

    backend: str
    prompt_ids: tuple[int, ...]
    decode_tokens: int
    threads: int
    answers: bool = True
    packed_cache: bool = False
    timeout_s: int = 1800


@dataclass(frozen=True)
class RunNote:
    """What lies with a job, so that a report can be made of it by whoever collects it.

    Attributes:
        bundle: its folder here.
        digest: name of its folder on the device.
    """

    bundle: str
    digest: str
    load: Workload


@dataclass(frozen=True)
class MeasuredRun:
    """What a run left.

    Attributes:
        logits: the columns kept for the golden answers, one after the other.
        account: what Android says of the runner once the measured run has ended.
    """

    job: JobResult
    events: RunEvents
    samples: tuple[Sample, ...]
    logits: NDArray[np.float32]
    account: ProcessMemory | None = None

    @classmethod
    def failed(cls, job: JobResult) -> "MeasuredRun":
        """Return a run that never began."""
        return cls(job, read_events(""), (), np.zeros(0, np.float32))

    @classmethod
    def of(cls, job: JobResult, account: ProcessMemory | None = None) -> "MeasuredRun":
        """Read what a job left."""
        output = job.files.get(OUTPUT)
        events = read_events(output.read_text("utf-8", errors="replace") if output else "")
        logits, samples = job.files.get(LOGITS), job.files.get(SAMPLES)
        return cls(
            job,
            events,
            read_samples(samples.read_text(errors="replace"), events.start_s) if samples else (),
            np.fromfile(logits, np.float32) if logits else np.zeros(0, np.float32),
            account,
        )


def prompt_of(bundle: Bundle, backend: str, tokens: int) -> tuple[int, ...]:
    """Return a prompt of so many tokens: texts that the bundle's model was recorded on, repeated.

    Raises:
        RunError: the bundle's golden answers cannot be read.
    """
    golden = verification.read_golden(bundle, backend)
    texts = [(*case.prompt_ids, *case.fed_ids) for case in golden.cases]
    ids = [token for text in texts for token in text]
    return tuple((ids * (tokens // len(ids) + 1))[:tokens])


def check_tokens(bundle: Bundle, prompt_tokens: int, decode_tokens: int) -> None:
    """Refuse what the bundle cannot hold.

    Raises:
        DeviceError: too many tokens, or none.
    """
    tokens, room = prompt_tokens + decode_tokens, bundle.manifest.context_length
    if prompt_tokens < 1 or decode_tokens < 1:
        raise DeviceError(
            f"{prompt_tokens} prompt tokens and {decode_tokens} decoded ones: a profile needs at "
            "least one of each"
        )
    if tokens > room:
        raise DeviceError(
            f"{prompt_tokens} prompt tokens and {decode_tokens} decoded ones are "
            f"{tokens}; the bundle has room for {room}: ask for fewer, or build with --context"
        )


def measure(
    target: Target,
    payload: Payload,
    uploaded: Uploaded,
    load: Workload,
    commands: Sequence[str],
    out: Path,
    on_output: Callable[[str], None],
) -> MeasuredRun:
    """Run a bundle on a device and bring back what it said.

    Args:
        commands: of the runner: `script_of`, or PACKING.
        out: folder that gets what the run left.
        on_output: called with each line of the runner's output as it comes.
    """
    with TemporaryDirectory() as temporary:
        script = Path(temporary) / SCRIPT
        script.write_text("\n".join(commands) + "\n", encoding="utf-8")
        note = RunNote(str(uploaded.source), uploaded.bundle.name, load)
        spec = JobSpec(
            command=_command(payload, uploaded, load),
            files={SCRIPT: script},
            companion=(
                str(uploaded.runner / payload.sampler[0]), PID, str(_SAMPLE_MS), str(_ROLLUP_EVERY),
            ),
            fetch=(LOGITS,),
            timeout_s=load.timeout_s,
            note=asdict(note) if commands != PACKING else {},
        )  # fmt: skip
        asking = _Asking(target, on_output)
        job = run_job(target, spec, out, asking.hear)
    return MeasuredRun.of(job, asking.account)


def script_of(bundle: Bundle, load: Workload) -> list[str]:
    """Return the runner's commands: the measured run, then the golden answers."""
    lines = [
        f"feed {' '.join(map(str, load.prompt_ids))}",
        f"phase {PREFILLED}",
        f"decode {load.decode_tokens}",
        f"phase {END_OF_RUN}",
    ]
    if not load.answers:
        return lines
    return [*lines, *golden_answers.script(bundle, load.backend), f"phase {ANSWERED}"]


class _Asking:
    """Asks Android for its account of the runner while that replays the golden answers.

    By then everything is measured that the question could disturb.
    """

    def __init__(self, target: Target, on_output: Callable[[str], None]) -> None:
        self.account: ProcessMemory | None = None
        self._target, self._on_output = target, on_output
        self._watch = Watch(END_OF_RUN)

    def hear(self, line: str) -> None:
        self._on_output(line)
        pid = self._watch.pid_at_end(line)
        if pid is not None:
            # Nothing depends on it; a device that is lost is noticed by whoever waits for the job.
            with suppress(DeviceError):
                self.account = ask_process_memory(self._target, pid)


def _command(payload: Payload, uploaded: Uploaded, load: Workload) -> tuple[str, ...]:
    def there(word: str) -> str:
        # The payload's words are as seen from its own folder.
        return str(uploaded.runner / word) if word.startswith(".") else word

    options = ["--script", SCRIPT, "--threads", str(load.threads)]
    if load.answers:
        options += ["--logits", LOGITS]
    if load.packed_cache:
        options += ["--packed-cache", str(packed_cache_of(uploaded))]
    return (*map(there, payload.command), str(uploaded.bundle), *options)


def packed_cache_of(uploaded: Uploaded) -> PurePosixPath:
    """Return where a bundle's packed weights are kept: they suit one device and one runtime."""
    return uploaded.runner / packed_cache_name(uploaded.bundle.name)


def packed_cache_name(bundle: str) -> str:
    """Return the file's name.

    Args:
        bundle: name of its folder on the device.
    """
    return f"{bundle}.packed-weights.bin"
