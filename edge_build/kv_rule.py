"""Which layers' caches `--kv auto` keeps in int8: those that the quantized model does not feel.

docs/kv-cache.md has the reasons for the bound, and what was measured.
"""

from collections.abc import Collection, Sequence

from pocketlm.edge_build.kv_cache import CachePlan
from pocketlm.runtime_py.kv_choice import (
    CHOICES,
    FLOAT32,
    INT8,
    KvChoice,
    KvMeasured,
    KvName,
    KvPrecision,
)

# Tokens of the text that choices are measured on.
KV_TOKENS = 512
# What a choice may add to the KL divergence of float32 caches: a hundredth of it, or this much, if
# that is more. Perplexity grows by exp(0.0005) = 1.0005 at most, and weights in 8 bits cost more.
_ADDED_SHARE = 0.01
_ADDED_NATS = 0.0005


def kv_candidates(
    plan: CachePlan, able: Collection[KvPrecision], *, mixes: bool = True
) -> tuple[KvChoice, ...]:
    """Return what a backend can keep these caches in, float32 first; each layout once.

    Args:
        able: precisions of the backend.
        mixes: whether what is tried may have two of them in one model.
    """
    choices = CHOICES if mixes and plan.has_both_kinds else (FLOAT32, INT8)
    return tuple(c for c in choices if {c.local, c.global_} <= set(able))


def largest_kl(tried: Sequence[KvMeasured]) -> float:
    """Return the KL divergence that a choice may have, in nats."""
    whole = next(one.kl_nats for one in tried if one.kv == FLOAT32.name)
    return whole + max(_ADDED_SHARE * whole, _ADDED_NATS)


def choose_kv(tried: Sequence[KvMeasured]) -> KvName:
    """Return the choice of the fewest bytes whose KL divergence is small enough.

    Of equal bytes, that of the smaller divergence; then the first.

    Args:
        tried: float32 caches among them, which are always good enough.
    """
    most = largest_kl(tried)
    good = [one for one in tried if one.kl_nats <= most or one.kv == FLOAT32.name]
    return min(good, key=lambda one: (one.size_bytes, one.kl_nats)).kv
