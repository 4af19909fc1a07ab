"""Reports as profiles of a 1B model would give them, made from code: no run stands behind them."""

import math
import random
from dataclasses import replace
from itertools import pairwise

from pocketlm.device_tests.device.facts import DeviceFacts, Provenance
from pocketlm.device_tests.memory.values import (
    AndroidAccount,
    Ledger,
    LedgerLine,
    PartBytes,
    PartKind,
    Phase,
    Sample,
)
from pocketlm.device_tests.profiling.document import (
    AnswerDifference,
    Answers,
    BundleFacts,
    Report,
    RunFacts,
    Step,
)

MB = 1_000_000
BUNDLE = BundleFacts(
    name="gemma-3-1b",
    digest="9f2c51d07be4a83c6f1e4d5a2b7780cd1e93f64b0a5c8d2e7f19b3c64a50e812",
    backend="executorch",
    recipe="int4-g32",
    context_length=4096,
    prefill_chunk=128,
    kv_dtype="float32",
    artifact_bytes=733_184_512,
)
PHONE = DeviceFacts(
    model="Pixel 8",
    system="Android 16",
    kernel="6.1.145-android14-11-gd7ab2f0e1c3a",
    architecture="aarch64",
    cores=9,
    cpu_features=("fp", "asimd", "aes", "crc32", "atomics", "fphp", "asimdhp", "asimddp", "sve",
                  "i8mm", "bf16"),
    ram_bytes=7_848 * MB,
    available_bytes=3_104 * MB,
    swap_bytes=4_096 * MB,
    free_swap_bytes=2_870 * MB,
    free_bytes=48_211 * MB,
    page_bytes=4096,
    oom_score_adj=-1000,
    provenance="real",
)  # fmt: skip
RUN = RunFacts(
    runtime="ExecuTorch",
    runtime_version="1.5.1",
    threads=4,
    kernels="XNNPACK with KleidiAI",
    prompt_tokens=512,
    decode_tokens=256,
)
# Part, kind, MB at the end of each phase, predicted MB, arithmetic.
_PARTS: tuple[tuple[str, PartKind, tuple[float, ...], float | None, str], ...] = (
    ("packed weights", "dirty", (0, 388.2, 388.2, 388.2), 386.9,
     "26 layers × 26.8 M parameters, 4.5 bits each, rows filled up to 8"),
    ("KV cache", "dirty", (0, 0, 20.6, 32.8), 33.6,
     "22 rings of 640 + 4 of 4,096 slots × 2 × 256 × 4 B, as far as written"),
    ("activations", "dirty", (0, 0.3, 17.4, 17.9), 17.6, "planned arena of 128 tokens"),
    ("logits", "dirty", (0, 0, 1.05, 1.05), 1.05, "262,144 × 4 B"),
    ("runtime heap", "dirty", (1.4, 7.7, 8.6, 8.7), None, ""),
    ("embedding", "clean", (0, 0, 62.3, 118.6), 121.0,
     "302 M parameters, 4.5 bits each, mapped: the rows of tokens that were met"),
    ("norms and scales", "clean", (0, 0.8, 2.4, 2.4), 2.2, "26 layers × 4 + 1 norms"),
    ("runtime code", "clean", (3.1, 9.8, 11.2, 11.3), 12.0, "libraries' text, as far as touched"),
)  # fmt: skip
_PHASES = (("started", 0.0, 0.08), ("loaded", 0.08, 2.94), ("prefilled", 2.94, 7.61),
           ("decoded", 7.61, 21.9))  # fmt: skip
_PEAKS = (4.6, 1042.3, 548.1, 596.4)  # loading holds the file beside the packed copy
_UNATTRIBUTED = 2.6


def sample_report(provenance: Provenance = "real", samples: int = 440) -> Report:
    """Return a run that came to its end, as on a phone."""
    device = replace(PHONE, provenance=provenance)
    if provenance in ("qemu-system", "qemu-user"):
        device = replace(device, model="QEMU virt, cortex-a76", system="Debian GNU/Linux 13")
    return Report(
        created="2026-11-22T12:30:05+00:00",
        pocketlm_version="0.1.0",
        verdict="ok",
        reason="The run came to its end, with the bundle's answers and no pressure on memory.",
        target="adb:38211FDJG00GBD",
        bundle=BUNDLE,
        device=device,
        run=RUN,
        load_s=2.86,
        phases=_phases(),
        ledger=_ledger(),
        samples=_samples(samples),
        steps=_steps(),
        answers=Answers(96, 0.021, 0.25, 1, (), True),
        warnings=(
            "Processes started over adb are spared by the kernel (oom_score_adj -1000): an app "
            "would be killed earlier.",
        ),
        android=AndroidAccount(1_020 * MB, 1_044 * MB, 2 * MB, 16 * MB),
    )


def failed_report() -> Report:
    """Return a run of which nothing came back but its verdict."""
    return replace(
        sample_report(),
        verdict="unauthorized",
        reason="adb:38211FDJG00GBD does not know this computer; unlock it and accept the question "
        "it shows, then run again.",
        load_s=None,
        phases=(),
        ledger=None,
        samples=(),
        steps=(),
        answers=None,
        warnings=(),
    )


def killed_report() -> Report:
    """Return a run that was killed while it loaded."""
    whole = sample_report()
    return replace(
        whole,
        verdict="oom_killed",
        reason="Killed 1.9 s into loading; the low-memory daemon says: min watermark is breached "
        "and swap is low. Use --packed-cache, or a bundle with a shorter context.",
        load_s=None,
        phases=whole.phases[:1],
        ledger=None,
        samples=tuple(sample for sample in whole.samples if sample.clock_s < 1.9),
        steps=(),
        answers=None,
    )


def wrong_report() -> Report:
    """Return a run whose answers are not the bundle's, and whose ledger does not add up."""
    whole = sample_report()
    assert whole.ledger is not None
    lines = tuple(
        replace(line, measured_bytes=2 * line.measured_bytes, within=False)
        if line.part == "KV cache"
        else line
        for line in whole.ledger.lines
    )
    differences = tuple(
        AnswerDifference(case, step, 12 + step, what, expected, found)
        for case, step, what, expected, found in (
            ("code (chat)", 7, "greedy token", "' def' (1063)", "' class' (998)"),
            ("code (chat)", 8, "largest logit error", "at most 0.25", "1.92"),
            ("story (none)", 21, "greedy token", "' the' (506)", "'\\n' (107)"),
        )
    )
    return replace(
        whole,
        verdict="wrong_answers",
        reason="3 of 96 steps differ from the bundle's golden answers; run pocketlm verify to "
        "see whether the bundle itself is right.",
        ledger=replace(whole.ledger, lines=lines, passed=False),
        answers=Answers(96, 1.92, 0.25, 1, differences, False),
    )


def folios_report() -> Report:
    """Return a run on a kernel that maps more of files than was asked for."""
    whole = sample_report()
    assert whole.ledger is not None
    lines = tuple(
        replace(line, measured_bytes=2 * line.measured_bytes, within=None)
        if line.kind == "clean" and line.predicted_bytes is not None
        else line
        for line in whole.ledger.lines
    )
    return replace(
        whole,
        device=replace(whole.device, kernel="6.18.44"),
        ledger=replace(whole.ledger, lines=lines, whole_folios=True),
    )


def many_phases_report() -> Report:
    """Return a run that marks a phase every hundred tokens."""
    whole = sample_report()
    last = whole.phases[-1]
    span_s = (last.end_s - last.start_s) / 30
    more = tuple(
        replace(last, name=f"decoded {100 * (i + 1)}", start_s=last.start_s + i * span_s,
                end_s=last.start_s + (i + 1) * span_s)
        for i in range(30)
    )  # fmt: skip
    return replace(whole, phases=(*whole.phases[:-1], *more))


def hostile_report() -> Report:
    """Return a run on a device that says of itself what would harm a page or a terminal."""
    whole = sample_report()
    evil = "<script>alert('x')</script>\"'>&\x1b]0;owned\x07\x1b[31m\u202e[red]{{ 7*7 }}\ud800"
    assert whole.ledger is not None
    phases = tuple(
        replace(phase, name=evil if i == 1 else phase.name,
                parts=tuple(replace(part, part=evil + part.part) for part in phase.parts))
        for i, phase in enumerate(whole.phases)
    )  # fmt: skip
    lines = tuple(
        replace(line, part=evil + line.part, arithmetic=evil) for line in whole.ledger.lines
    )
    return replace(
        whole,
        created=evil,
        pocketlm_version=evil,
        reason=evil,
        target=evil,
        bundle=replace(BUNDLE, name=evil, recipe=evil, backend=evil, digest=evil, kv_dtype=evil),
        device=replace(PHONE, model=evil, system=evil, kernel=evil, cpu_features=(evil,)),
        run=replace(RUN, runtime=evil, runtime_version=evil, kernels=evil),
        phases=phases,
        ledger=replace(whole.ledger, lines=lines),
        answers=Answers(1, 9.0, 0.25, 0, (AnswerDifference(*([evil, 1, 2] + [evil] * 3)),), False),
        warnings=(evil,),
    )


def _phases() -> tuple[Phase, ...]:
    phases = []
    for i, (name, start_s, end_s) in enumerate(_PHASES):
        parts = [PartBytes(part, kind, round(sizes[i] * MB)) for part, kind, sizes, *_ in _PARTS]
        if i == len(_PHASES) - 1:
            parts.append(PartBytes("unattributed", "dirty", round(_UNATTRIBUTED * MB)))
        parts = [part for part in parts if part.resident_bytes]
        dirty = sum(part.resident_bytes for part in parts if part.kind == "dirty")
        clean = sum(part.resident_bytes for part in parts if part.kind == "clean")
        peak = max(round(_PEAKS[i] * MB), dirty + clean)
        phases.append(
            Phase(name, start_s, end_s, peak, dirty + clean, dirty, clean, 0, tuple(parts))
        )
    return tuple(phases)


def _ledger() -> Ledger:
    band_ratio, band_bytes = 0.05, 2 * MB
    lines = []
    for part, kind, sizes, predicted, arithmetic in _PARTS:
        measured_bytes = round(sizes[-1] * MB)
        predicted_bytes = None if predicted is None else round(predicted * MB)
        within = None
        if predicted_bytes is not None:
            error = abs(measured_bytes - predicted_bytes)
            within = error <= max(band_ratio * predicted_bytes, band_bytes)
        lines.append(LedgerLine(part, kind, predicted_bytes, measured_bytes, within, arithmetic))
    return Ledger(
        tuple(lines), round(_UNATTRIBUTED * MB), 1_031 * MB, round(_PEAKS[1] * MB), band_ratio,
        band_bytes, True,
    )  # fmt: skip


def _samples(count: int) -> tuple[Sample, ...]:
    """Return what a sampler would see: a climb to the peak while loading, then little by little."""
    chance = random.Random(20261122)
    knots = ((0.0, 2.0), (0.08, 4.5), (0.4, 330.0), (1.5, 760.0), (2.55, 1038.0), (2.7, 640.0),
             (2.94, 406.8), (3.4, 470.0), (7.61, 511.75), (8.2, 530.0), (21.9, 583.55))  # fmt: skip
    samples = []
    for i in range(count):
        clock_s = _PHASES[-1][2] * i / (count - 1)
        resident_bytes = round(_between(knots, clock_s) * MB)
        available = 3_104 - 0.82 * resident_bytes / MB + 14 * chance.gauss(0, 1)
        samples.append(
            Sample(
                clock_s=round(clock_s, 4),
                resident_bytes=resident_bytes,
                anonymous_bytes=round(0.7 * resident_bytes),
                file_bytes=round(0.3 * resident_bytes),
                swap_bytes=0,
                available_bytes=round(available * MB),
                pressure_some_s=0.0,
                celsius=round(31 + 6 * (1 - math.exp(-clock_s / 12)), 1),
            )
        )
    return tuple(samples)


def _steps() -> tuple[Step, ...]:
    chance = random.Random(1)
    steps = [Step(2.95, 4.62, 512, 512)]
    clock_s = 7.62
    for i in range(256):
        wall_s = 0.052 + 0.00001 * i + 0.002 * abs(chance.gauss(0, 1)) + (0.03 if i == 140 else 0)
        steps.append(Step(round(clock_s, 5), round(wall_s, 6), 1, 513 + i))
        clock_s += wall_s
    return tuple(steps)


def _between(knots: tuple[tuple[float, float], ...], clock_s: float) -> float:
    for (start_s, low), (end_s, high) in pairwise(knots):
        if clock_s <= end_s:
            return low + (high - low) * (clock_s - start_s) / (end_s - start_s)
    return knots[-1][1]
