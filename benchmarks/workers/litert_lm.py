"""Measures LiteRT-LM through its Python sessions.

It takes text, not ids, and hands out no logits: prompts are repeated words of one token each, and
a step of decode lasts from one streamed token to the next, sampling and detokenizing included.
"""

import time
from itertools import pairwise

import litert_lm

from benchmarks.memory import peak_resident_bytes, resident_memory
from benchmarks.workers.measuring import (
    WARM_UP_STEPS,
    Decode,
    Job,
    Measured,
    read_job,
    report,
    summarize_steps,
)

_WORD = " x"


class LiteRtModel:
    """One loaded engine."""

    def __init__(self, job: Job) -> None:
        self.steps = WARM_UP_STEPS + job.decode_steps + 1
        self._engine = litert_lm.Engine(
            job.artifact,
            backend=litert_lm.Backend.CPU(thread_count=job.threads),
            max_num_tokens=job.context_length,
            # Packed weights were written there by the build and are mapped now.
            cache_dir=job.settings["cache"],
        )
        tokens = len(self._engine.tokenize(_WORD * 10))
        if tokens != 10:
            raise SystemExit(f"{_WORD!r} ten times is {tokens} tokens; choose another word")

    def session(self, most_tokens: int) -> litert_lm.Session:
        """Start anew, greedy, to decode at most some tokens at once."""
        return self._engine.create_session(
            apply_prompt_template=False,
            max_output_tokens=most_tokens,
            sampler_config=litert_lm.SamplerConfig(top_k=1),
        )

    def decode(self, session: litert_lm.Session, depth: int) -> Decode:
        """Time steps between streamed tokens, the first few left out."""
        arrivals = [time.perf_counter() for _ in session.run_decode_async()]
        steps = [b - a for a, b in pairwise(arrivals)]
        # The last token is handed over together with the one before it.
        if len(arrivals) < self.steps:
            raise SystemExit(f"decode ended after {len(arrivals)} tokens: it met a stop token")
        return summarize_steps(depth, steps[WARM_UP_STEPS:-1])


def prefill(session: litert_lm.Session, tokens: int, first: bool) -> float:
    """Process a prompt; the session puts one token of its own before the first.

    Returns:
        Seconds.
    """
    start = time.perf_counter()
    session.run_prefill([_WORD * (tokens - 1 if first else tokens)])
    return time.perf_counter() - start


def measure(job: Job) -> Measured:
    """Measure load, prefill and decode; the same order as every other system's."""
    interpreter = resident_memory()
    start = time.perf_counter()
    model = LiteRtModel(job)
    load_s = time.perf_counter() - start
    loaded = resident_memory()
    session = model.session(most_tokens=1)
    prefill(session, job.prefill_tokens, first=True)
    session.run_decode()
    first_token_s = time.perf_counter() - start
    prefill_s = []
    for _ in range(max(1, job.prefill_repeats)):
        session.close()
        session = model.session(model.steps)
        prefill_s.append(prefill(session, job.prefill_tokens, first=True))
    decodes, position = [], job.prefill_tokens
    for depth in job.depths:
        prefill(session, depth - position, first=False)
        decodes.append(model.decode(session, depth))
        position = depth + model.steps
    return Measured(
        load_s=load_s,
        first_token_s=first_token_s,
        prefill_s=tuple(prefill_s),
        decode=tuple(decodes),
        interpreter=interpreter,
        loaded=loaded,
        peak_resident_bytes=peak_resident_bytes(),
    )


if __name__ == "__main__":
    litert_lm.set_min_log_severity(litert_lm.LogSeverity.FATAL)
    report(measure(read_job()))
