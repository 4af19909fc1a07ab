"""Bundle + target → report: send, run, attribute, predict, compare. The pipeline on one screen."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from pocketlm.device_tests.device.facts import EMULATED, DeviceFacts
from pocketlm.device_tests.device.system_counters import had_company
from pocketlm.device_tests.device.target import LostDeviceError, RefusedError, Target
from pocketlm.device_tests.job.outcome import ENDED
from pocketlm.device_tests.job.values import JobResult
from pocketlm.device_tests.job.verdict import MEASURED, Verdict
from pocketlm.device_tests.memory.attribution import KnownFiles, attribute
from pocketlm.device_tests.memory.dumpsys import ProcessMemory
from pocketlm.device_tests.memory.ledger import compare
from pocketlm.device_tests.memory.values import END_OF_RUN, AndroidAccount, Ledger, PartBytes, Phase
from pocketlm.device_tests.profiling import golden_answers
from pocketlm.device_tests.profiling.document import Answers, BundleFacts, Report, RunFacts, Step
from pocketlm.device_tests.profiling.measured_run import (
    PACKING,
    MeasuredRun,
    Workload,
    check_tokens,
    measure,
    packed_cache_name,
    script_of,
)
from pocketlm.device_tests.runners.payload import Payload, payload
from pocketlm.device_tests.runners.upload import bundle_digest, folder_name, upload
from pocketlm.runtime_py.bundle import Bundle
from pocketlm.runtime_py.kv_choice import kv_choice_of
from pocketlm.runtime_py.memory_inputs import MemoryInputs
from pocketlm.runtime_py.memory_prediction import Positions, predict


@dataclass(frozen=True)
class ProgressCallbacks:
    """Where a profile's progress goes.

    Attributes:
        step: what begins now.
        sending: bytes done, bytes in all, and the file.
        line: of the runner's output.
    """

    step: Callable[[str], None]
    sending: Callable[[int, int, str], None]
    line: Callable[[str], None]


def profile(target: Target, bundle: Bundle, load: Workload, progress: ProgressCallbacks) -> Report:
    """Run a bundle on a device and account for its memory.

    Whatever happens on the device is a verdict in the report.

    Raises:
        DeviceError: the workload does not suit the bundle, or there is no runner for the device.
        RunError: the bundle cannot be read.
    """
    check_tokens(bundle, len(load.prompt_ids), load.decode_tokens)
    progress.step(f"looking at {target.name}")
    device = target.facts()
    runner = runner_for(target, device, load.backend, progress)
    with TemporaryDirectory() as folder:
        run = _run(target, bundle, runner, load, Path(folder), progress)
    return report_of(target.name, device, bundle, runner, load, run)


def runner_for(
    target: Target, device: DeviceFacts, backend: str, progress: ProgressCallbacks
) -> Payload:
    """Return the runner and its libraries for a device.

    Raises:
        DeviceError: there is none for its processor, or what makes it is missing here.
    """
    # A device that is not this machine brings no C library that the runner could rely on.
    return payload(backend, device.architecture, target.name != "host", progress.step)


def _run(
    target: Target,
    bundle: Bundle,
    runner: Payload,
    load: Workload,
    out: Path,
    progress: ProgressCallbacks,
) -> MeasuredRun:
    try:
        progress.step(f"sending what {target.name} does not have yet")
        uploaded = upload(target, bundle, runner, progress.sending)
    except LostDeviceError as error:
        return MeasuredRun.failed(JobResult("", "lost_device", str(error)))
    except RefusedError as error:
        return MeasuredRun.failed(JobResult("", error.reason, str(error)))
    if load.packed_cache:
        progress.step("packing weights into a file")
        packing = measure(target, runner, uploaded, load, PACKING, out / "packing", progress.line)
        if packing.job.verdict not in MEASURED:
            return packing
    progress.step(f"running on {target.name}")
    commands = script_of(bundle, load)
    return measure(target, runner, uploaded, load, commands, out, progress.line)


def report_of(
    name: str,
    device: DeviceFacts,
    bundle: Bundle,
    runner: Payload,
    load: Workload,
    run: MeasuredRun,
) -> Report:
    """Attribute, predict and compare a run that came to its end, whoever brought it here.

    Args:
        name: of the device, as the user calls it.
    """
    entry, manifest = bundle.backend(load.backend), bundle.manifest
    artifacts = [file for file in manifest.files if file.path.startswith(f"{load.backend}/")]
    files = KnownFiles.of(
        artifact=[file.path for file in artifacts],
        packed=[packed_cache_name(folder_name(bundle))],
        runtime=[file.name for file in runner.files],
    )
    parts = attribute(run.events.phases, files)
    ledger = _ledger(bundle, load, device, run, parts)
    verdict, reason, found = _final_verdict(bundle, load, device, run)
    return Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        pocketlm_version=version("pocketlm"),
        verdict=verdict,
        reason=reason,
        target=name,
        bundle=BundleFacts(
            name=manifest.name,
            digest=bundle_digest(bundle),
            backend=load.backend,
            recipe=manifest.recipe,
            context_length=manifest.context_length,
            prefill_chunk=manifest.prefill_chunk,
            kv_dtype=kv_choice_of(entry.caches).name,
            artifact_bytes=sum(file.size_bytes for file in artifacts),
        ),
        device=device,
        run=RunFacts(
            runtime=run.events.runtime or runner.runtime,
            runtime_version=run.events.runtime_version or runner.runtime_version,
            threads=load.threads,
            kernels=run.events.kernels,
            prompt_tokens=len(load.prompt_ids),
            decode_tokens=load.decode_tokens,
            packed_cache=load.packed_cache,
        ),
        load_s=run.events.load_s,
        phases=_phases(run, parts),
        ledger=ledger,
        samples=run.samples,
        steps=tuple(
            Step(call.clock_s - run.events.start_s, call.wall_s, call.tokens, call.position)
            for call in run.events.measured_calls
        ),
        answers=found,
        warnings=_warnings(device, run),
        android=_android(run.account),
    )


def _final_verdict(
    bundle: Bundle, load: Workload, device: DeviceFacts, run: MeasuredRun
) -> tuple[Verdict, str, Answers | None]:
    verdict, reason = run.job.verdict, run.job.reason
    if verdict == "throttled" and device.provenance in EMULATED:
        verdict, reason = "ok", ENDED  # an emulator's times mean nothing
    if not load.answers or verdict not in MEASURED:
        return verdict, reason, None
    found = golden_answers.compare_answers(bundle, load.backend, run.events.calls, run.logits)
    if verdict == "ok" and not found.passed:
        return "wrong_answers", (
            f"{len(found.differences)} answers differ from the bundle's golden answers; do not "
            "ship this bundle to such a device"
        ), found  # fmt: skip
    return verdict, reason, found


def _ledger(
    bundle: Bundle,
    load: Workload,
    device: DeviceFacts,
    run: MeasuredRun,
    parts: list[tuple[PartBytes, ...]],
) -> Ledger | None:
    """Compare the end of the measured run; what verifying adds later is not part of it."""
    last = next((i for i, phase in enumerate(run.events.phases) if phase.phase == END_OF_RUN), None)
    if last is None:
        return None
    decoded = [call.greedy_id for call in run.events.measured_calls[: load.decode_tokens]]
    positions = Positions(
        tokens=len(load.prompt_ids) + load.decode_tokens,
        longest_call=min(bundle.manifest.prefill_chunk, len(load.prompt_ids)),
        rows=frozenset((*load.prompt_ids, *decoded)),
    )
    prediction = predict(
        MemoryInputs.of(bundle.manifest),
        load.backend,
        positions,
        device.architecture,
        packed_cache=load.packed_cache,
    )
    peak_bytes = max(phase.peak_bytes for phase in run.events.phases[: last + 1])
    return compare(prediction, parts[last], peak_bytes, whole_folios=device.maps_whole_folios)


def _phases(run: MeasuredRun, parts: list[tuple[PartBytes, ...]]) -> tuple[Phase, ...]:
    found, start_s = [], 0.0
    for mark, row in zip(run.events.phases, parts, strict=True):
        end_s = mark.clock_s - run.events.start_s
        dirty = sum(part.resident_bytes for part in row if part.kind == "dirty")
        resident = sum(part.resident_bytes for part in row)
        found.append(
            Phase(
                name=mark.phase,
                start_s=start_s,
                end_s=end_s,
                # Reading the mappings maps some more, after the peak was read.
                peak_bytes=max(mark.peak_bytes, resident),
                resident_bytes=resident,
                dirty_bytes=dirty,
                clean_bytes=resident - dirty,
                swap_bytes=mark.swap_bytes,
                parts=row,
            )
        )
        start_s = end_s
    return tuple(found)


def _android(account: ProcessMemory | None) -> AndroidAccount | None:
    if account is None or "Pss" not in account.totals:
        return None
    totals = account.totals
    return AndroidAccount(
        pss_bytes=totals["Pss"],
        rss_bytes=totals.get("Rss"),
        swap_bytes=totals.get("SwapPss", totals.get("Swap")),
        gpu_bytes=account.gpu_bytes,
    )


def _warnings(device: DeviceFacts, run: MeasuredRun) -> tuple[str, ...]:
    found = []
    if device.oom_score_adj is not None and device.oom_score_adj < 0:
        found.append(
            f"processes started here have oom_score_adj {device.oom_score_adj}: the system spares "
            "them where it would kill an app"
        )
    if any(not phase.regions_are_counted for phase in run.events.phases):
        found.append("the kernel does not tell which pages are resident: caches show as 0")
    regions = [region.part for phase in run.events.phases for region in phase.regions]
    if run.events.ended and not any(part.startswith("kv-") for part in regions):
        found.append(
            "an earlier pocketlm built this artifact, which does not keep its caches apart: they "
            "count as activations; build the bundle again"
        )
    if had_company(run.job.counters_before, run.job.counters_after):
        found.append("other programs used the processors during the run: times are too long")
    if any(not phase.peak_is_of_phase for phase in run.events.phases):
        found.append("the kernel does not forget a peak: peaks are of the whole run so far")
    return tuple(found)
