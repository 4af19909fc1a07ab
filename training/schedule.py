"""How large the steps of a training are, from its first to its last."""

# Moments of the optimizer are of few gradients in the beginning.
_RISES_UNTIL = 0.05
# Weights that swing between two codes come to rest only while the rate falls, and what they won
# before is seen then; the longer the rate is held, the farther weights go that should turn.
_FALLS_FROM = 0.6


def share_of_rate(step: int, steps: int) -> float:
    """Return the share of the learning rate that a step takes, above 0 and at most 1.

    It rises, is held, and falls to zero in a straight line (warm-up, stable, decay: Hu et al.,
    arXiv 2404.06395).

    Args:
        step: 0 is the first one, `steps` - 1 the last.
    """
    risen = (step + 1) / max(1.0, _RISES_UNTIL * steps)
    left = (1 - step / steps) / (1 - _FALLS_FROM)
    return min(1.0, risen, left)
