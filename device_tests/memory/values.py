"""Memory of a run as values, as a report holds them: phases, parts, samples, the ledger."""

from dataclasses import dataclass

from pocketlm.runtime_py.memory_parts import PartKind as PartKind

# The phase at whose end the ledger is drawn; golden answers that are replayed later are no part of
# what is measured.
END_OF_RUN = "decoded"


@dataclass(frozen=True)
class PartBytes:
    """Bytes of one part of memory that are resident."""

    part: str
    kind: PartKind
    resident_bytes: int


@dataclass(frozen=True)
class Phase:
    """One phase of the run, measured at its end.

    Attributes:
        peak_bytes: most that was resident during the phase.
        parts: what is resident at its end, all of it: the parts add up to `resident_bytes`.
    """

    name: str
    start_s: float
    end_s: float
    peak_bytes: int
    resident_bytes: int
    dirty_bytes: int
    clean_bytes: int
    swap_bytes: int
    parts: tuple[PartBytes, ...]


@dataclass(frozen=True)
class LedgerLine:
    """One part of memory as predicted from the bundle, and as measured.

    Attributes:
        within: whether the difference is inside the band; None where nothing was predicted, or
            where the kernel alone decides (`Ledger.whole_folios`).
        arithmetic: how the prediction comes about, for people.
    """

    part: str
    kind: PartKind
    predicted_bytes: int | None
    measured_bytes: int
    within: bool | None
    arithmetic: str = ""


@dataclass(frozen=True)
class Ledger:
    """All lines, at the end of the last phase.

    Attributes:
        unattributed_bytes: measured, but in no line.
        predicted_peak_bytes, measured_peak_bytes: most that is resident at any time of the run.
        band_ratio, band_bytes: a line is within where its error is below either.
        whole_folios: whether the kernel maps whole folios of files around a fault, so that clean
            lines may be larger than predicted.
    """

    lines: tuple[LedgerLine, ...]
    unattributed_bytes: int
    predicted_peak_bytes: int
    measured_peak_bytes: int
    band_ratio: float
    band_bytes: int
    passed: bool
    whole_folios: bool = False


@dataclass(frozen=True)
class Sample:
    """What the sampler saw at one moment; None where the device does not say."""

    clock_s: float
    resident_bytes: int
    anonymous_bytes: int | None = None
    file_bytes: int | None = None
    swap_bytes: int | None = None
    available_bytes: int | None = None
    pressure_some_s: float | None = None
    celsius: float | None = None


@dataclass(frozen=True)
class AndroidAccount:
    """What Android itself says of the runner at the end of the measured run (`dumpsys meminfo`).

    Attributes:
        pss_bytes: resident, pages that others map too by their share.
        rss_bytes, swap_bytes: None where this Android does not say.
        gpu_bytes: what the GPU holds for the process; in no resident size.
    """

    pss_bytes: int
    rss_bytes: int | None
    swap_bytes: int | None
    gpu_bytes: int
