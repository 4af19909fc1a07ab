"""Facts of a report under the names that people read, in the order in which they matter.

The page shows them, and the comparison tells which differ.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pocketlm.device_tests.device.facts import DeviceFacts
from pocketlm.device_tests.memory.values import AndroidAccount
from pocketlm.device_tests.profiling.document import BundleFacts, Report, RunFacts
from pocketlm.device_tests.quantities import NOTHING, share_text, size_text


@dataclass(frozen=True)
class Fact:
    """One fact.

    Attributes:
        passing: whether it is of a moment: no two runs agree in it, and none need to.
        is_code: whether it is a name for machines, such as a digest.
    """

    name: str
    text: str
    passing: bool = False
    is_code: bool = False


@dataclass(frozen=True)
class FactList:
    """Facts of one thing: "bundle", "device" or "run"."""

    about: str
    facts: tuple[Fact, ...]


def fact_lists(report: Report) -> tuple[FactList, ...]:
    """Return what was run, where, and how."""
    return (
        FactList("device", _device_facts(report.device)),
        FactList("bundle", _bundle_facts(report.bundle)),
        FactList("run", (*_run_facts(report.run), *_profile_facts(report))),
    )


def _device_facts(device: DeviceFacts) -> tuple[Fact, ...]:
    def share(part_bytes: int) -> str:
        return f"{share_text(part_bytes / device.ram_bytes)} of it" if device.ram_bytes > 0 else ""

    spared = device.oom_score_adj
    return (
        Fact("model", device.model),
        Fact("provenance", device.provenance),
        Fact("system", device.system),
        Fact("kernel", device.kernel, is_code=True),
        Fact("processor", f"{device.architecture}, {device.cores} cores"),
        Fact("memory", size_text(device.ram_bytes)),
        Fact(
            "MemAvailable before",
            f"{size_text(device.available_bytes)}, {share(device.available_bytes)}",
            passing=True,
        ),
        Fact("swap", size_text(device.swap_bytes) if device.swap_bytes else "none"),
        Fact("swap free before", size_text(device.free_swap_bytes), passing=True),
        Fact("disk free before", size_text(device.free_bytes), passing=True),
        Fact("page size", f"{device.page_bytes:,} B"),
        Fact("oom_score_adj", NOTHING if spared is None else str(spared)),
        Fact("processor features", " ".join(device.cpu_features) or NOTHING, is_code=True),
    )


def _bundle_facts(bundle: BundleFacts) -> tuple[Fact, ...]:
    return (
        Fact("bundle", bundle.name),
        Fact("backend", bundle.backend),
        Fact("recipe", bundle.recipe),
        Fact("context", f"{bundle.context_length:,} positions"),
        Fact("prefill chunk", f"{bundle.prefill_chunk:,} tokens"),
        Fact("KV cache holds", bundle.kv_dtype),
        Fact("artifact", size_text(bundle.artifact_bytes)),
        Fact("manifest sha256", bundle.digest, is_code=True),
    )


def _run_facts(run: RunFacts) -> tuple[Fact, ...]:
    return (
        Fact("runtime", f"{run.runtime} {run.runtime_version}"),
        Fact("threads", str(run.threads)),
        Fact("kernels", run.kernels or NOTHING),
        Fact("prompt", f"{run.prompt_tokens:,} tokens"),
        Fact("decoded", f"{run.decode_tokens:,} tokens"),
        Fact("packed weights", "mapped from a file" if run.packed_cache else "made while loading"),
    )


def _profile_facts(report: Report) -> tuple[Fact, ...]:
    warmest = _largest([sample.celsius for sample in report.samples], "{:.1f} °C".format)
    swapped = _largest([sample.swap_bytes for sample in report.samples], size_text)
    return (
        Fact("warmest", warmest, passing=True),
        Fact("most in swap", swapped, passing=True),
        *_android_facts(report.android),
        Fact("memory sampled", f"{len(report.samples):,} times", passing=True),
        Fact("target", report.target, passing=True),
        Fact("profiled", report.created, passing=True),
        Fact("pocketlm", report.pocketlm_version),
    )


def _android_facts(android: AndroidAccount | None) -> tuple[Fact, ...]:
    return () if android is None else (Fact("Android counts", android_text(android), passing=True),)


def android_text(android: AndroidAccount) -> str:
    """Return Android's own account: "PSS 89.5 MB, RSS 93.7 MB, swapped 0.1 MB, GPU 12.3 MB"."""
    sizes = (
        ("PSS", android.pss_bytes),
        ("RSS", android.rss_bytes),
        ("swapped", android.swap_bytes),
        ("GPU", android.gpu_bytes),
    )
    return ", ".join(f"{name} {size_text(size)}" for name, size in sizes if size is not None)


def _largest(seen: Iterable[float | None], shown: Callable[[float], str]) -> str:
    known = [value for value in seen if value is not None]
    return shown(max(known)) if known else NOTHING
