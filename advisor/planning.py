"""What is worth building: candidates that the checkpoint allows and the device has room for."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pocketlm.advisor.candidates import Candidate
from pocketlm.advisor.limits import DeviceMemory, Limits
from pocketlm.advisor.task import Sources, Task
from pocketlm.advisor.work_folder import WorkFolder
from pocketlm.edge_build.build_key import build_key
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.planned_bundle import BuildChoices, plan_bundle
from pocketlm.edge_build.preparation import Preparation, prepare
from pocketlm.edge_build.quantization import methods, recipes
from pocketlm.edge_build.quantization.own_recipe import OWN_RECIPE
from pocketlm.edge_build.quantization.recipe import QuantRecipe
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.memory_inputs import MemoryInputs


@dataclass(frozen=True)
class Settings:
    """How every candidate is built and measured; see `Task`."""

    context_length: int | None
    tokens: int
    threads: int | None
    fresh: bool = False


@dataclass(frozen=True)
class Planned:
    """A candidate before it is built.

    Attributes:
        task: None where it cannot be built.
        memory: on the device; None where it cannot be built.
        reason: why it cannot.
    """

    candidate: Candidate
    task: Task | None = None
    memory: DeviceMemory | None = None
    reason: str = ""

    @property
    def is_measured(self) -> bool:
        """Whether it is worth building."""
        return self.memory is not None and self.memory.status != "does not fit"


def plan(
    wanted: Sequence[Candidate],
    sources: Sources,
    settings: Settings,
    limits: Limits,
    folder: WorkFolder,
    *,
    are_named: bool,
) -> tuple[Planned, ...]:
    """Check each candidate from headers alone, and predict its memory.

    Args:
        are_named: by the user, who is told of what cannot be built; a default is left out.

    Raises:
        ModelError, BuildError, RunError: nothing, or nothing of what was named, can be built.
    """
    found: list[Planned] = []
    for candidate in wanted:
        try:
            found.append(_planned(candidate, sources, settings, limits, folder))
        except BuildError as error:
            if are_named:
                raise
            if candidate.recipe == OWN_RECIPE:
                # Most checkpoints are on no grid.
                continue
            found.append(Planned(candidate, reason=str(error)))
    if not any(one.task for one in found):
        raise BuildError(found[0].reason)
    if sources.calibration_text and not any(one.task and one.task.calibrates for one in found):
        raise RunError(
            f"--calibrate {sources.calibration_text}: no candidate needs data; add one such as "
            "int4-g32+gptq to --candidates, or leave it out"
        )
    return tuple(found)


def _planned(
    candidate: Candidate, sources: Sources, settings: Settings, limits: Limits, folder: WorkFolder
) -> Planned:
    task = Task(
        candidate,
        sources,
        _needs_data(candidate),
        settings.context_length,
        settings.tokens,
        settings.threads,
        build_key="",
        bundle=str(folder.folder / "planned"),
        fresh=settings.fresh,
    )
    prepared = prepare(task.spec)
    key = build_key(prepared, sources.checkpoint_sha256)
    task = replace(task, build_key=key, bundle=str(folder.bundle(candidate, key)))
    memory = limits.compare(_memory_inputs(prepared), candidate.backend)
    return Planned(candidate, task, memory)


def _needs_data(candidate: Candidate) -> bool:
    """Say whether a method of a candidate reads a calibration text."""
    if candidate.method is not None:
        return bool(methods.load(candidate.method).statistics)
    if candidate.recipe == OWN_RECIPE:
        return False
    rules = recipes.load(candidate.recipe).rules
    named = {rule.scheme.method for rule in rules if rule.scheme is not None}
    return any(methods.load(name).statistics for name in named)


def _memory_inputs(prepared: Preparation) -> MemoryInputs:
    """Return what the bundle would say of memory, with the grid of each weight as it is built."""
    rules = (replace(rule, pattern=glob.escape(weight)) for weight, rule in prepared.rules.items())
    choices = BuildChoices(
        QuantRecipe(prepared.recipe.name, tuple(rules)),
        prepared.caches.context_length,
        prepared.caches.chunk,
        prepared.kv_choices(prepared.backends[0])[0],
        tuple(backend.name for backend in prepared.backends),
    )
    name = prepared.spec.name or Path(prepared.spec.checkpoint).name
    return plan_bundle(name, prepared.checkpoint.config, choices)


def refuse_impossible(planned: Sequence[Planned], limits: Limits) -> None:
    """Refuse a limit that no candidate is under.

    Raises:
        RunError: says what the smallest needs.
    """
    buildable = [(one.memory, one.candidate) for one in planned if one.memory is not None]
    if not buildable or any(one.is_measured for one in planned):
        return
    memory, candidate = min(buildable, key=lambda pair: pair[0].peak_bytes)
    asked = f"--device {limits.budget.name}" if limits.budget is not None else "--ram"
    raise RunError(
        f"{asked}: no candidate fits; the smallest, {candidate.name}, {memory.reason}; give more "
        "memory, a shorter --context, or smaller --candidates"
    )
