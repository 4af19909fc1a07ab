"""Which candidate to take, by one rule, and why each other lost. Numbers in, names out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pocketlm.runtime_py.sizes import size_text

Status = Literal["chosen", "lost", "too far", "does not fit", "cannot be built"]


@dataclass(frozen=True)
class Figures:
    """What decides about one candidate.

    Attributes:
        memory_bytes: predicted peak on the device.
        kl_nats: mean divergence from the checkpoint.
        kl_error_nats: its standard error.
        agreement: share of tokens with the same top token.
        is_tight: the device has room, but other apps lose theirs.
    """

    name: str
    memory_bytes: int
    kl_nats: float
    kl_error_nats: float
    agreement: float
    decode_tokens_per_s: float
    is_tight: bool = False


@dataclass(frozen=True)
class Objective:
    """What is asked for.

    Attributes:
        has_memory_limit: whether what does not fit was left out.
        least_agreement: None is no limit.
    """

    has_memory_limit: bool
    least_agreement: float | None

    @property
    def wants_least_memory(self) -> bool:
        """Whether the smallest that agrees is wanted, and not the closest that fits."""
        return self.least_agreement is not None and not self.has_memory_limit

    @property
    def rule(self) -> str:
        """What is chosen, in words."""
        agreeing = ""
        if self.least_agreement is not None:
            agreeing = f" with the same top token for {_percent(self.least_agreement)} or more"
        if self.wants_least_memory:
            return f"least memory of those{agreeing}; of equal ones least KL, then fastest decode"
        fitting = " that fit" if self.has_memory_limit else ""
        return (
            f"least KL of those{fitting}{agreeing}; of those within its standard error least "
            "memory, then least KL, then fastest decode"
        )


@dataclass(frozen=True)
class Standing:
    """What became of one candidate.

    Attributes:
        reason: why it lost.
        is_dominated: another takes no more memory and is no further away, and is better in one.
    """

    name: str
    status: Status
    reason: str
    is_dominated: bool


def choose(measured: Sequence[Figures], objective: Objective) -> tuple[Standing, ...]:
    """Choose one candidate at most, and say why each other lost, in the order given."""
    chosen = _chosen(measured, objective)
    return tuple(_standing(one, chosen, measured, objective) for one in measured)


def nearest(measured: Iterable[Figures]) -> Figures:
    """Return the candidate that agrees most, where none agrees enough."""
    return max(measured, key=lambda one: (one.agreement, -one.kl_nats, -one.memory_bytes))


def dominates(one: Figures, other: Figures) -> bool:
    """Say whether a candidate is better in memory or KL, and not worse in the other."""
    ours, theirs = (one.memory_bytes, one.kl_nats), (other.memory_bytes, other.kl_nats)
    return ours != theirs and all(a <= b for a, b in zip(ours, theirs, strict=True))


def _chosen(measured: Sequence[Figures], objective: Objective) -> Figures | None:
    able = [one for one in measured if _agrees(one, objective)]
    # Who makes other apps give way comes after who does not.
    able = [one for one in able if not one.is_tight] or able
    if not able:
        return None
    if not objective.wants_least_memory:
        able = [one for one in able if one.kl_nats <= _as_close(able)]
    return min(able, key=_order)


def _order(one: Figures) -> tuple[int, float, float, str]:
    return (one.memory_bytes, one.kl_nats, -one.decode_tokens_per_s, one.name)


def _as_close(able: Iterable[Figures]) -> float:
    """Return the KL up to which candidates cannot be told apart: Breiman's one standard error."""
    closest = min(able, key=lambda one: (one.kl_nats, one.kl_error_nats))
    return closest.kl_nats + closest.kl_error_nats


def _agrees(one: Figures, objective: Objective) -> bool:
    return objective.least_agreement is None or one.agreement >= objective.least_agreement


def _standing(
    one: Figures, chosen: Figures | None, measured: Sequence[Figures], objective: Objective
) -> Standing:
    is_dominated = any(dominates(other, one) for other in measured)
    if one is chosen:
        return Standing(one.name, "chosen", "", is_dominated)
    if not _agrees(one, objective):
        assert objective.least_agreement is not None
        least = _percent(objective.least_agreement)
        reason = f"agreement {_percent(one.agreement)} is under {least}"
        return Standing(one.name, "too far", reason, is_dominated)
    assert chosen is not None, "who agrees is chosen where nobody else is"
    return Standing(one.name, "lost", _why_lost(one, chosen, objective), is_dominated)


def _why_lost(one: Figures, chosen: Figures, objective: Objective) -> str:
    if one.is_tight and not chosen.is_tight:
        return f"tight: the system would kill other apps; {chosen.name} fits"
    memory, kl_nats = one.memory_bytes - chosen.memory_bytes, one.kl_nats - chosen.kl_nats
    sizes = f"{size_text(one.memory_bytes)} against {size_text(chosen.memory_bytes)}"
    distances = f"KL {one.kl_nats:.4f} against {chosen.kl_nats:.4f}"
    if memory > 0 and kl_nats > 0:
        return f"larger and further away than {chosen.name}"
    if memory > 0 and kl_nats == 0:
        return f"larger than {chosen.name} and no closer: {sizes}"
    if memory > 0:
        gain = "than asked for" if objective.wants_least_memory else "by no more than its error"
        return f"larger than {chosen.name}: {sizes}; closer {gain}: {distances}"
    if memory < 0:
        return f"further away than {chosen.name}: {distances}; smaller: {sizes}"
    if kl_nats > 0:
        return f"further away than {chosen.name} in the same memory: {distances}"
    return f"decodes no faster than {chosen.name}, and else the same"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
