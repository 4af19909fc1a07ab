"""Does a bundle, built or only planned, fit a device? Predicts; runs nothing."""

from collections.abc import Iterable
from dataclasses import dataclass

from device_tests.fit.changes import Answer, Change, Price, cheapest, price_of
from device_tests.memory.prediction import Positions, Prediction, full_context, predict
from device_tests.quantities import size_text
from runtime_py.manifest import Manifest

# Predictions are right within this much of a peak.
MARGIN_RATIO = 0.05
# Android ends apps in the background for one in front, until that holds so much of the RAM: by
# published runs, 39 % of it passes and 56 % is killed. A quarter is no strain.
_ANDROID_EASY_RATIO, _ANDROID_MOST_RATIO = 0.25, 0.40


@dataclass(frozen=True)
class Room:
    """What a device has for a model.

    Attributes:
        name: of a profile, or of a device as it is now.
        evicts: whether the system ends other apps to make room, as Android does.
    """

    name: str
    ram_bytes: int
    available_bytes: int
    swap_bytes: int
    evicts: bool
    architecture: str = "aarch64"

    @property
    def easy_bytes(self) -> int:
        """Memory that may be dirty without strain."""
        if self.evicts:
            return int(_ANDROID_EASY_RATIO * self.ram_bytes)
        return self.available_bytes

    @property
    def most_bytes(self) -> int:
        """Memory that may be dirty before the run is killed."""
        if self.evicts:
            return max(int(_ANDROID_MOST_RATIO * self.ram_bytes), self.available_bytes)
        # Swap is mostly compressed RAM, and quantized weights do not compress: a model as large as
        # what was available was killed beside 128 MiB of swap.
        return self.available_bytes


@dataclass(frozen=True)
class Judgement:
    """An answer with its arithmetic.

    Attributes:
        reasons: one sentence for each comparison that was made.
    """

    answer: Answer
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Fit:
    """A bundle's backend against one device."""

    backend: str
    room: Room
    positions: Positions
    prediction: Prediction
    judgement: Judgement
    changes: tuple[Change, ...]


def judge(prediction: Prediction, room: Room) -> Judgement:
    """Hold a prediction against what a device has."""
    dirty = int((1 + MARGIN_RATIO) * prediction.dirty_bytes)
    peak = int((1 + MARGIN_RATIO) * prediction.peak_bytes)
    reasons = [
        f"dirty: {size_text(prediction.dirty_bytes)} + {MARGIN_RATIO:.0%} = {size_text(dirty)} "
        f"against {size_text(room.easy_bytes)} without strain and {size_text(room.most_bytes)} at "
        f"most ({_limits(room)})"
    ]
    if dirty > room.most_bytes:
        return Judgement("will not fit", (*reasons, "the system would kill it"))
    reasons.append(
        f"peak: {size_text(prediction.peak_bytes)} + {MARGIN_RATIO:.0%} = {size_text(peak)} "
        f"against {size_text(room.available_bytes)} available"
    )
    if dirty > room.easy_bytes:
        return Judgement("tight", (*reasons, "it would run, but other apps would be ended"))
    if peak > room.available_bytes:
        what = "other apps may be ended while it loads, and" if room.evicts else "it would run, but"
        return Judgement("tight", (*reasons, f"{what} file pages would be dropped and read again"))
    return Judgement("fits", tuple(reasons))


def _limits(room: Room) -> str:
    if room.evicts:
        return (
            f"{_ANDROID_EASY_RATIO:.0%} and {_ANDROID_MOST_RATIO:.0%} of "
            f"{size_text(room.ram_bytes)} RAM: Android ends other apps for the one in front"
        )
    swap = ", without swap, because weights do not compress" if room.swap_bytes else ""
    return f"what is available{swap}: nothing else can be ended"


# A way to ask for less, and the manifest that it leads to; None where it changes nothing.
Variant = tuple[str, Manifest]


def fit(
    manifest: Manifest,
    backend: str,
    room: Room,
    variants: Iterable[Variant] = (),
    *,
    tokens: int | None = None,
    packed_cache: bool = False,
) -> Fit:
    """Predict a bundle on a device.

    Args:
        variants: what else could be built.
        tokens: that the caches will hold; None is the whole context.
    """

    def predicted(source: Manifest, packed: bool = packed_cache) -> Prediction:
        positions = positions_of(source, tokens)
        return predict(source, backend, positions, room.architecture, packed_cache=packed)

    now = predicted(manifest)
    judgement = judge(now, room)
    changes = []
    if judgement.answer != "fits":
        others = list(variants)
        can_map = backend == "executorch" and not packed_cache
        if can_map:
            others.append(("", manifest))
        for what, other in others:
            for packed in (False, True) if can_map else (False,):
                options = f"{what} --packed-cache".lstrip() if packed else what
                price = price_of(manifest, other, backend, packed)
                after = predicted(other, packed or packed_cache)
                changes.append(_change(options, price, now, after, room))
    return Fit(
        backend,
        room,
        positions_of(manifest, tokens),
        now,
        judgement,
        cheapest(changes, judgement.answer),
    )


def positions_of(manifest: Manifest, tokens: int | None) -> Positions:
    """Return how far a run goes: to the end of the context, or to so many tokens."""
    whole = full_context(manifest)
    if tokens is None or tokens >= whole.tokens:
        return whole
    assert isinstance(whole.rows, int)
    return Positions(tokens, min(tokens, whole.longest_call), min(tokens, whole.rows))


def _change(what: str, price: Price, before: Prediction, after: Prediction, room: Room) -> Change:
    return Change(
        what,
        before.peak_bytes - after.peak_bytes,
        before.dirty_bytes - after.dirty_bytes,
        judge(after, room).answer,
        price,
    )
