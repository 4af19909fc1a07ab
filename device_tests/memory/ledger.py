"""Compares a prediction with what was attributed, line by line."""

from collections.abc import Sequence

from pocketlm.device_tests.memory.values import Ledger, LedgerLine, PartBytes, PartKind
from pocketlm.runtime_py.memory_parts import PARTS
from pocketlm.runtime_py.memory_prediction import PredictedPart, Prediction

# A line is right within a twentieth, or within two megabytes: below that, a few files more or
# less that the kernel keeps mapped decide.
BAND_RATIO = 0.05
BAND_BYTES = 2_000_000
_UNATTRIBUTED = "unattributed"


def compare(
    prediction: Prediction,
    measured: Sequence[PartBytes],
    peak_bytes: int,
    *,
    whole_folios: bool = False,
) -> Ledger:
    """Hold a prediction against the parts of the last phase.

    Args:
        peak_bytes: most that was resident at any time of the run.
        whole_folios: whether the kernel may keep more of a file mapped than faults asked for. What
            a clean line then has above its prediction is neither held against it nor against the
            peak: it depends on how the file was once read or written.
    """
    predicted: dict[tuple[str, PartKind], PredictedPart] = {
        (part.part, part.kind): part for part in prediction.parts
    }
    found = {(part.part, part.kind): part.resident_bytes for part in measured}
    resident = sum(found.values())
    unattributed = sum(size for (part, _), size in found.items() if part == _UNATTRIBUTED)
    lines, mapped_beyond = [], 0
    order: list[str] = list(PARTS)
    for part, kind in sorted({*predicted, *found}, key=lambda key: order.index(key[0])):
        if part == _UNATTRIBUTED:
            continue
        expected = predicted.get((part, kind))
        size = found.get((part, kind), 0)
        within = is_within(expected.size_bytes, size) if expected else None
        if expected and whole_folios and kind == "clean" and size > expected.size_bytes:
            within = within or None
            mapped_beyond += size - expected.size_bytes
        lines.append(
            LedgerLine(
                part=part,
                kind=kind,
                predicted_bytes=expected.size_bytes if expected else None,
                measured_bytes=size,
                within=within,
                arithmetic=expected.arithmetic if expected else "",
            )
        )
    return Ledger(
        lines=tuple(lines),
        unattributed_bytes=unattributed,
        predicted_peak_bytes=prediction.peak_bytes,
        measured_peak_bytes=peak_bytes,
        band_ratio=BAND_RATIO,
        band_bytes=BAND_BYTES,
        passed=(
            all(line.within is not False for line in lines)
            and unattributed <= BAND_RATIO * resident
            and (
                is_within(prediction.peak_bytes, peak_bytes)
                or is_within(prediction.peak_bytes, peak_bytes - mapped_beyond)
            )
        ),
        whole_folios=whole_folios,
    )


def is_within(predicted_bytes: int, measured_bytes: int) -> bool:
    """Say whether a prediction is right within the band."""
    error = abs(predicted_bytes - measured_bytes)
    return error <= max(BAND_BYTES, BAND_RATIO * measured_bytes)
