"""Profiles on an emulated Arm machine: answers, ledger, and memory that runs out. Minutes long."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pocketlm.device_tests.device.target import Target
from pocketlm.device_tests.device.targets import open_target
from pocketlm.device_tests.fit.fitting import fit
from pocketlm.device_tests.fit.memory_budget import device_budget
from pocketlm.device_tests.profiling.document import Report
from pocketlm.device_tests.profiling.measured_run import Workload, prompt_of
from pocketlm.device_tests.profiling.pipeline import ProgressCallbacks, profile
from pocketlm.device_tests.runners.upload import BUNDLES, RUNNERS
from pocketlm.edge_build.build import build
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.models import shapes
from pocketlm.models.random_checkpoint import write_random_checkpoint
from pocketlm.runtime_py import open_bundle
from pocketlm.runtime_py.kv_choice import KV_PRECISIONS, KvPrecision
from pocketlm.runtime_py.memory_inputs import MemoryInputs
from tests.conftest import PICO
from tests.device_tests.doubled_devices import adb_server
from tests.doubles.adb_server import AdbServer
from tests.doubles.qemu_system import Disk, SystemMachine, SystemPhone

pytestmark = pytest.mark.devices

DECODE = 16
BACKENDS = ("executorch", "onnx")
QUIET = ProgressCallbacks(lambda step: None, lambda done, total, name: None, lambda line: None)


@pytest.fixture(scope="module")
def server() -> Iterator[AdbServer]:
    with adb_server("qemu-system-aarch64", "aarch64-linux-gnu-g++") as running:
        yield running


@pytest.fixture(scope="module")
def machine(server: AdbServer) -> Iterator[SystemPhone]:
    with SystemPhone(SystemMachine(ram_mib=1024, data=Disk(600), home=Disk(600))) as running:
        server.connect(running.serial)
        yield running
        server.run("disconnect", running.serial)


@pytest.fixture(params=["adb", "ssh"])
def target(
    request: pytest.FixtureRequest,
    machine: SystemPhone,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Target]:
    if request.param == "adb":
        opened = open_target(f"adb:{machine.serial}")
    else:
        monkeypatch.setenv("POCKETLM_SSH_CONFIG", str(machine.ssh.config))
        opened = open_target("ssh:pocketlm-double")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, KvPrecision], Path]:
    """Return pico at two contexts and both precisions of keys and values."""
    folder = tmp_path_factory.mktemp("bundles")
    made = {}
    for context in (256, 512):
        for kv in KV_PRECISIONS:
            out = folder / f"pico-{context}-{kv}"
            spec = BuildSpec(
                PICO,
                out,
                recipe="int4-g32",
                context_length=context,
                chunk=64,
                kv=kv,
                golden_tokens=8,
            )
            build(spec)
            made[context, kv] = out
    return made


@pytest.fixture(scope="module")
def wide_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return two layers of gemma-3-270m: its whole vocabulary, so 110 MB that stay dirty."""
    folder = tmp_path_factory.mktemp("wide")
    shape = shapes.with_layers(shapes.load("gemma-3-270m"), 2)
    write_random_checkpoint(shape, folder / "checkpoint", seed=1)
    spec = BuildSpec(
        folder / "checkpoint",
        folder / "bundle",
        backends=("executorch",),
        context_length=256,
        golden_tokens=1,
    )
    build(spec)
    return folder / "bundle"


def profiled(target: Target, folder: Path, backend: str, prompt: int, answers: bool) -> Report:
    bundle = open_bundle(folder)
    ids = prompt_of(bundle, backend, prompt)
    load = Workload(backend, ids, DECODE, threads=2, answers=answers)
    return profile(target, bundle, load, QUIET)


def left_on(target: Target) -> list[str]:
    """Return the files that neither a bundle nor a runner accounts for."""
    found = target.run(f"find {target.folder} -type f", timeout_s=120).output.splitlines()
    kept = (f"{target.folder / BUNDLES}/", f"{target.folder / RUNNERS}/")
    return [path for path in found if not path.startswith(kept) or path.endswith(".part")]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kv", KV_PRECISIONS)
@pytest.mark.parametrize("context", [256, 512])
def test_answers_are_golden_and_memory_is_as_predicted(
    target: Target,
    bundles: dict[tuple[int, KvPrecision], Path],
    backend: str,
    kv: KvPrecision,
    context: int,
) -> None:
    report = profiled(target, bundles[context, kv], backend, context - DECODE, answers=True)
    assert report.verdict == "ok", report.reason
    assert report.device.provenance == "qemu-system"
    assert report.answers is not None and report.answers.passed
    ledger = report.ledger
    assert ledger is not None and ledger.passed, ledger
    resident = report.phases[-1].resident_bytes
    assert ledger.unattributed_bytes <= 0.05 * resident
    # The whole, and not only each line within two megabytes of a small model.
    assert abs(ledger.predicted_peak_bytes / ledger.measured_peak_bytes - 1) <= 0.05
    assert all(
        sum(part.resident_bytes for part in phase.parts) == phase.resident_bytes
        for phase in report.phases
    )
    # Android's own account of the run, where there is Android.
    assert (report.android is not None) == target.name.startswith("adb:")
    if report.android is not None:
        assert report.android.rss_bytes is not None
        assert 0.9 * ledger.measured_peak_bytes < report.android.rss_bytes < 1.1 * resident
        assert report.android.pss_bytes <= report.android.rss_bytes
    assert left_on(target) == []


@pytest.mark.parametrize(
    ("ram_mib", "swap_mib", "answer", "verdict"),
    [
        (160, 0, "will not fit", "oom_killed"),
        (164, 128, "will not fit", "oom_killed"),
        (200, 0, "tight", "under_pressure"),
        (190, 128, "tight", "under_pressure"),
        (640, 0, "fits", "ok"),
    ],
)
def test_fit_foresees_how_a_run_ends(
    wide_bundle: Path,
    server: AdbServer,
    ram_mib: int,
    swap_mib: int,
    answer: str,
    verdict: str,
) -> None:
    with SystemPhone(SystemMachine(ram_mib, swap_mib, data=Disk(400))) as small:
        server.connect(small.serial)
        target = open_target(f"adb:{small.serial}")
        prompt = 48
        manifest = open_bundle(wide_bundle).manifest
        budget = device_budget(target.name, target.facts())
        foreseen = fit(MemoryInputs.of(manifest), "executorch", budget, tokens=prompt + DECODE)
        assert foreseen.result.status == answer, foreseen.result
        report = profiled(target, wide_bundle, "executorch", prompt, answers=False)
        assert report.verdict == verdict, report.reason
        if verdict == "ok":
            assert report.ledger is not None and report.ledger.passed
            peak_bytes = report.ledger.measured_peak_bytes
            assert abs(foreseen.prediction.peak_bytes / peak_bytes - 1) <= 0.05
        assert left_on(target) == []
        server.run("disconnect", small.serial)
