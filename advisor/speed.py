"""How fast a session prefills and decodes: the median of a few rounds on this machine."""

from collections.abc import Sequence
from statistics import median
from time import perf_counter

from pocketlm.advisor.record import Speed
from pocketlm.runtime_py.session import Session

_PREFILL_TOKENS = 512
_DECODE_TOKENS = 64
_ROUNDS = 3


def measure_speed(session: Session, ids: Sequence[int]) -> Speed:
    """Prefill and decode tokens of a text, once to warm up and a few times to measure.

    Args:
        ids: at least 2; not more than the context.
    """
    decoded = min(_DECODE_TOKENS, len(ids) // 2)
    prefilled = min(_PREFILL_TOKENS, len(ids) - decoded)
    prompt, after = ids[:prefilled], ids[prefilled : prefilled + decoded]
    rounds = [_round(session, prompt, after) for _ in range(1 + _ROUNDS)][1:]
    prefill_s, decode_s = (median(times) for times in zip(*rounds, strict=True))
    return Speed(len(prompt) / prefill_s, len(after) / decode_s, len(prompt), len(after))


def _round(session: Session, prompt: Sequence[int], after: Sequence[int]) -> tuple[float, float]:
    """Return the seconds of a prefill and of the decoding after it."""
    session.reset()
    begun = perf_counter()
    session.prefill(prompt)
    prefilled = perf_counter()
    for token in after:
        session.decode(token)
    return prefilled - begun, perf_counter() - prefilled
