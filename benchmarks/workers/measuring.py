"""The one measurement that every system goes through.

A worker imports its runtime, then hands a way to load over; everything that is timed, and when
memory is read, stands here. Standard library only: every system's own interpreter imports it.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

from benchmarks.memory import ResidentMemory, peak_resident_bytes, resident_memory

# Decode steps before those that are timed.
WARM_UP_STEPS = 8


@dataclass(frozen=True)
class Job:
    """What to measure.

    Attributes:
        artifact: path of the file or folder that the system loads.
        context_length: positions that the caches hold.
        prefill_tokens: length of the timed prompt; it starts in empty caches.
        prefill_repeats: timed runs of that prompt, after the cold one.
        depths: tokens in the caches before decode steps are timed, rising.
        decode_steps: timed steps at each depth.
        settings: the system's own, by name.
    """

    artifact: str
    threads: int
    context_length: int
    vocab_size: int
    prefill_tokens: int
    prefill_repeats: int
    depths: tuple[int, ...]
    decode_steps: int
    settings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> "Job":
        fields = json.loads(text)
        return cls(**{**fields, "depths": tuple(fields["depths"])})

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class LoadedSystem(Protocol):
    """A model in memory with its caches."""

    def run(self, tokens: Sequence[int], position: int) -> int:
        """Process tokens that follow `position` others; 0 starts anew.

        Returns:
            The id with the highest logit after the last token.
        """
        ...

    def fill(self, position: int) -> bool:
        """Bring the caches into the state after `position` tokens by a shorter way than running.

        Returns:
            Whether there is one; if not, nothing has changed.
        """
        ...

    def keep(self, position: int) -> None:
        """Save the state after `position` tokens for a later `fill`, if the system can."""
        ...


@dataclass(frozen=True)
class Decode:
    """Speed and memory of decode steps at one depth."""

    depth_tokens: int
    median_s: float
    p10_s: float
    p90_s: float
    anonymous_bytes: int
    file_bytes: int


@dataclass(frozen=True)
class Measured:
    """What one process of a system showed.

    Attributes:
        load_s: from the runtime imported to a model that can run.
        first_token_s: from there, through a cold prompt of the prefill length, to the first id.
        prefill_s: the prompt again in empty caches, once a repeat.
        interpreter: resident before loading, runtime imported.
        loaded: resident after loading, before the first token.
    """

    load_s: float
    first_token_s: float
    prefill_s: tuple[float, ...]
    decode: tuple[Decode, ...]
    interpreter: ResidentMemory
    loaded: ResidentMemory
    peak_resident_bytes: int


def token_ids(count: int, vocab_size: int) -> list[int]:
    """Return the ids that every system is fed: spread over the vocabulary, hardly any twice."""
    return [(7 + 7919 * place) % vocab_size for place in range(count)]


def measure(job: Job, load: Callable[[Job], LoadedSystem]) -> None:
    """Measure a system whose runtime is imported; print the figures as the last line of stdout."""
    interpreter = resident_memory()
    start = time.perf_counter()
    system = load(job)
    load_s = time.perf_counter() - start
    loaded = resident_memory()
    tokens = token_ids(max(job.prefill_tokens, *job.depths) + 256, job.vocab_size)
    prompt = tokens[: job.prefill_tokens]
    system.run(prompt, 0)
    first_token_s = time.perf_counter() - start
    prefill_s = []
    for _ in range(job.prefill_repeats):
        again = time.perf_counter()
        system.run(prompt, 0)
        prefill_s.append(time.perf_counter() - again)
    decodes = []
    position = job.prefill_tokens
    for depth in job.depths:
        position = _advance(system, tokens, position, depth)
        decodes.append(_decode(system, tokens, position, job.decode_steps))
        position += WARM_UP_STEPS + job.decode_steps
    report(
        Measured(
            load_s=load_s,
            first_token_s=first_token_s,
            prefill_s=tuple(prefill_s),
            decode=tuple(decodes),
            interpreter=interpreter,
            loaded=loaded,
            peak_resident_bytes=peak_resident_bytes(),
        )
    )


def summarize_steps(depth_tokens: int, times: Sequence[float]) -> Decode:
    """Return the speed of timed steps, and the memory that is resident now."""
    deciles = statistics.quantiles(times, n=10)
    memory = resident_memory()
    return Decode(
        depth_tokens=depth_tokens,
        median_s=statistics.median(times),
        p10_s=deciles[0],
        p90_s=deciles[-1],
        anonymous_bytes=memory.anonymous_bytes,
        file_bytes=memory.file_bytes,
    )


def report(measured: Measured) -> None:
    """Print a worker's figures: one JSON document, the last line of stdout."""
    print(json.dumps(asdict(measured)), flush=True)


def read_job() -> Job:
    """Return the job that stands on the command line."""
    return Job.from_json(sys.argv[1])


def _advance(system: LoadedSystem, tokens: Sequence[int], position: int, depth: int) -> int:
    if depth > position and not system.fill(depth):
        system.run(tokens[position:depth], position)
        system.keep(depth)
    return max(position, depth)


def _decode(system: LoadedSystem, tokens: Sequence[int], position: int, steps: int) -> Decode:
    times = []
    for step in range(WARM_UP_STEPS + steps):
        place = position + step
        start = time.perf_counter()
        system.run([tokens[place % len(tokens)]], place)
        times.append(time.perf_counter() - start)
    return summarize_steps(position, times[WARM_UP_STEPS:])
