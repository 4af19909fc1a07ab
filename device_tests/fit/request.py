"""A request to `fit` and what it predicts: from a bundle, checkpoint or shape to predictions."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.fit import memory_budget
from pocketlm.device_tests.fit.fitting import Fit, fit
from pocketlm.device_tests.fit.planned_shape import planned_shape
from pocketlm.device_tests.fit.variants import variants
from pocketlm.device_tests.packed_cache import require_packed_cache
from pocketlm.runtime_py import engines
from pocketlm.runtime_py.kv_choice import KV_NAMES, KvChoice, KvName

if TYPE_CHECKING:
    from pocketlm.runtime_py.memory_inputs import MemoryInputs


@dataclass(frozen=True)
class FitRequest:
    """A question; None is what a build would choose.

    Attributes:
        what: a bundle, a checkpoint's folder, a hub id, or a published shape.
        devices: profiles or targets; empty is every profile.
        backend: None is every backend.
        context_length: of a shape, to build for; of a bundle, how much of it is used.
        packed_cache: packed weights are mapped from a file, where a backend can.
        revision: of a hub id.
    """

    what: str
    devices: tuple[str, ...] = ()
    backend: str | None = None
    context_length: int | None = None
    recipe: str | None = None
    chunk: int | None = None
    kv: KvName | None = None
    packed_cache: bool = False
    revision: str | None = None

    @property
    def is_built(self) -> bool:
        """Whether it is about a bundle."""
        return (Path(self.what) / "manifest.json").exists()

    @property
    def typed(self) -> dict[str, str | int]:
        """What was chosen of a build, by its flags."""
        flags = {
            "--recipe": self.recipe,
            "--context": self.context_length,
            "--chunk": self.chunk,
            "--kv": self.kv,
        }
        return {flag: value for flag, value in flags.items() if value is not None}


def predict_fits(request: FitRequest) -> "tuple[MemoryInputs, tuple[Fit, ...]]":
    """Predict memory on each device.

    Returns:
        The bundle, built or planned, and a prediction for each backend on each device.

    Raises:
        DeviceError, BuildError, ModelError, RunError: what was asked cannot be answered.
    """
    inputs = _read_bundle(request) if request.is_built else _plan(request)
    backend = request.backend
    names = sorted(inputs.backends) if backend is None else [backend]
    if backend is not None and backend not in inputs.backends:
        known = ", ".join(sorted(inputs.backends))
        raise DeviceError(f"--backend {backend}: {request.what} has {known}")
    if request.packed_cache:
        require_packed_cache(names)
    budgets = [memory_budget.find_budget(name) for name in request.devices]
    budgets = budgets or list(memory_budget.profiles())
    return inputs, tuple(
        fit(
            inputs,
            name,
            budget,
            variants(inputs, name),
            tokens=request.context_length if request.is_built else None,
            packed_cache=request.packed_cache and name in engines.packed_cache_names(),
        )
        for name in names
        for budget in budgets
    )


def _read_bundle(request: FitRequest) -> "MemoryInputs":
    from pocketlm.runtime_py.bundle import open_bundle
    from pocketlm.runtime_py.memory_inputs import MemoryInputs

    # Only the manifest counts here; `verify` checks the files.
    manifest = open_bundle(request.what, check_hashes=False).manifest
    typed = {**request.typed, **({"--revision": request.revision} if request.revision else {})}
    for flag, value in typed.items():
        if flag != "--context":
            raise DeviceError(
                f"{flag} {value}: {request.what} is built already; name its shape to plan another"
            )
    context = request.context_length
    if context is not None and not 1 <= context <= manifest.context_length:
        raise DeviceError(
            f"--context {context}: {request.what} was built for 1 to {manifest.context_length} "
            "positions"
        )
    return MemoryInputs.of(manifest)


def _plan(request: FitRequest) -> "MemoryInputs":
    from pocketlm.edge_build.planned_bundle import BuildChoices, plan_bundle
    from pocketlm.edge_build.quantization.recipes import DEFAULT_RECIPE

    kv = request.kv or "float32"
    if kv not in KV_NAMES:
        raise DeviceError(
            f"--kv {kv}: a plan has no weights to measure; choose one of {', '.join(KV_NAMES)}"
        )
    shape = planned_shape(request.what, request.revision)
    choices = BuildChoices(
        recipe=request.recipe or DEFAULT_RECIPE,
        context_length=request.context_length,
        chunk=request.chunk,
        kv=KvChoice.named(kv),
    )
    return plan_bundle(shape.name, shape.config, choices)
