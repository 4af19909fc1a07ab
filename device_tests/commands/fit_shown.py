"""What `fit` prints: a line for each device, what would help, the arithmetic if asked."""

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pocketlm.device_tests.fit.changes import Change
    from pocketlm.device_tests.fit.fitting import Fit
    from pocketlm.runtime_py.memory_inputs import MemoryInputs

# More ways than these help nobody to choose.
_MOST_CHANGES = 3
_STYLES = {"fits": "green", "tight": "yellow", "will not fit": "bold red"}
_PACKED = "--packed-cache"
# Of what is not known here, in the commands that are printed.
_CHECKPOINT = "CHECKPOINT"


@dataclass(frozen=True)
class Asked:
    """What the answers are of, as commands name it.

    Attributes:
        checkpoint: a folder or hub id that can be built; None where its place is not known.
        bundle: a folder; None where nothing is built yet.
        options: of the build, by flag.
    """

    checkpoint: str | None
    bundle: str | None
    options: "Mapping[str, str | int]"


def print_fits(
    asked: Asked, inputs: "MemoryInputs", found: "Sequence[Fit]", *, verbose: bool
) -> None:
    """Print the answers.

    Args:
        verbose: whether parts of memory and reasons follow.
    """
    from pocketlm.runtime_py.terminal import make_console

    console = make_console()
    _print_summary(console, inputs, found)
    commands = [line for one in found for line in _print_remedies(console, asked, one)]
    if any(_CHECKPOINT in line for line in commands):
        console.print(_whose_checkpoint(asked, inputs), soft_wrap=True)
    if not verbose:
        console.print("arithmetic: --verbose", style="dim")
        return
    for backend in dict.fromkeys(one.backend for one in found):
        ours = [one for one in found if one.backend == backend]
        _print_parts(console, ours[0])
        for one in ours:
            for reason in one.judgement.reasons:
                console.print(f"{one.budget.name}: {reason}")


def _print_summary(console: Any, inputs: "MemoryInputs", found: "Sequence[Fit]") -> None:
    from rich.table import Table
    from rich.text import Text

    from pocketlm.device_tests.quantities import size_text

    console.print(
        f"{inputs.name}, {inputs.recipe}: {found[0].positions.tokens:,} of "
        f"{inputs.context_length:,} positions, chunks of {inputs.prefill_chunk}",
        markup=False,
    )
    table = Table("device", "backend", "answer", "dirty", "at most", "peak", "available", box=None)
    for column in table.columns[3:]:
        column.justify = "right"
    for one in found:
        answer = one.judgement.answer
        prediction, budget = one.prediction, one.budget
        sizes = (
            prediction.dirty_bytes,
            budget.most_bytes,
            prediction.peak_bytes,
            budget.available_bytes,
        )
        shown = map(size_text, sizes)
        table.add_row(budget.name, one.backend, Text(answer, _STYLES[answer]), *shown)
    console.print(table)


def _print_remedies(console: Any, asked: Asked, one: "Fit") -> list[str]:
    """Print what would make it fit; returns the commands."""
    from pocketlm.device_tests.fit.changes import RANKS

    answer = one.judgement.answer
    helps = [change for change in one.changes if RANKS[change.answer] < RANKS[answer]]
    if answer == "fits":
        return []
    console.print(f"{one.budget.name}, {one.backend}: {answer}; it would")
    commands = [command_of(asked, change) for change in helps[:_MOST_CHANGES]]
    for change, command in zip(helps, commands, strict=False):
        verb = "fit" if change.answer == "fits" else "be tight"
        console.print(f"  {verb} with {command}", soft_wrap=True)
    if not helps:
        console.print("  do no better with any change of the build; choose a smaller model")
    return commands


def command_of(asked: Asked, change: "Change") -> str:
    """Return what to type for a change: a build, a run, or both."""
    words = [word for word in change.what.split() if word != _PACKED]
    bundle = "BUNDLE" if words or asked.bundle is None else shlex.quote(asked.bundle)
    run = f"pocketlm profile {bundle} --on DEVICE {_PACKED}" if _PACKED in change.what else ""
    if not words:
        return run
    # What is not changed stays as it was built.
    options = {**asked.options, **dict(zip(words[::2], words[1::2], strict=True))}
    if "--context" in options and "--chunk" in options:
        options["--chunk"] = min(int(options["--chunk"]), int(options["--context"]))
    checkpoint = _CHECKPOINT if asked.checkpoint is None else shlex.quote(asked.checkpoint)
    typed = " ".join(f"{flag} {shlex.quote(str(value))}" for flag, value in options.items())
    build = f"pocketlm build {checkpoint} --out BUNDLE {typed}"
    return f"{build}, then {run}" if run else build


def _whose_checkpoint(asked: Asked, inputs: "MemoryInputs") -> str:
    if asked.bundle is None:
        return f"{_CHECKPOINT}: a folder or a hub id that has the weights of {inputs.name}"
    recipe = str(asked.options.get("--recipe", ""))
    rules = f"pocketlm inspect {shlex.quote(asked.bundle)} shows its rules"
    file = f"; {recipe}: as it was then, {rules}" if recipe.endswith(".toml") else ""
    return f"{_CHECKPOINT}: what {inputs.name} was built from{file}"


def _print_parts(console: Any, one: "Fit") -> None:
    from rich.table import Table

    from pocketlm.device_tests.quantities import size_text

    prediction = one.prediction
    console.print(f"{one.backend}:")
    table = Table("part", "kind", "bytes", "how")
    table.columns[2].justify = "right"
    for part in prediction.parts:
        table.add_row(part.part, part.kind, size_text(part.size_bytes), part.arithmetic)
    table.add_section()
    table.add_row("all", "dirty", size_text(prediction.dirty_bytes), "only swap or a kill frees it")
    table.add_row("all", "clean", size_text(prediction.clean_bytes), "can be read again")
    while_loading = prediction.load_peak_bytes > prediction.resident_bytes
    how = f"while loading: {prediction.load_arithmetic}" if while_loading else "at the end: all"
    table.add_row("peak", "", size_text(prediction.peak_bytes), how)
    console.print(table)
