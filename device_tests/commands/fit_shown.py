"""What `fit` prints: a line for each device, commands that make it fit, with -v all details."""

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pocketlm.device_tests.fit.changes import Change, FitStatus
    from pocketlm.device_tests.fit.fitting import Fit
    from pocketlm.runtime_py.memory_inputs import MemoryInputs
    from pocketlm.runtime_py.memory_prediction import Prediction

# More ways than these help nobody to choose.
_MOST_CHANGES = 3
_STYLES = {"fits": "green", "tight": "yellow", "will not fit": "bold red"}
_PACKED = "--packed-cache"
# Of what is not known here, in the commands that are printed.
_CHECKPOINT = "CHECKPOINT"


@dataclass(frozen=True)
class Asked:
    """The model that `fit` was asked about, as commands name it.

    Attributes:
        checkpoint: a folder or hub id that can be built; None where neither is known.
        bundle: a folder; None where nothing is built yet.
        options: of the build, by flag.
    """

    checkpoint: str | None
    bundle: str | None
    options: "Mapping[str, str | int]"


def print_fits(
    asked: Asked, inputs: "MemoryInputs", found: "Sequence[Fit]", *, verbose: bool
) -> None:
    """Print the predictions.

    Args:
        verbose: whether options that only make it tight, the parts of memory and the comparisons
            are printed too.
    """
    from pocketlm.runtime_py.terminal import make_console

    console = make_console()
    _print_summary(console, inputs, found)
    lines = list(remedy_lines(asked, found, verbose=verbose))
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
    if any(f" {_CHECKPOINT} " in line for line in lines):
        console.print(_whose_checkpoint(asked, inputs), soft_wrap=True, markup=False)
    if verbose:
        _print_details(console, found)
    else:
        console.print("details: -v", style="dim")


def _print_summary(console: Any, inputs: "MemoryInputs", found: "Sequence[Fit]") -> None:
    from rich.table import Table
    from rich.text import Text

    from pocketlm.device_tests.quantities import size_text

    console.print(_headline(inputs, found[0].positions.tokens), markup=False)
    table = Table("device", "backend", "result", "dirty", "limit", "peak", "available", box=None)
    for column in table.columns[3:]:
        column.justify = "right"
    for one in found:
        status = one.result.status
        prediction, budget = one.prediction, one.budget
        sizes = (
            prediction.dirty_bytes,
            budget.most_bytes,
            prediction.peak_bytes,
            budget.available_bytes,
        )
        shown = map(size_text, sizes)
        table.add_row(budget.name, one.backend, Text(status, _STYLES[status]), *shown)
    console.print(table)


def _headline(inputs: "MemoryInputs", tokens: int) -> str:
    used = "" if tokens == inputs.context_length else f", {tokens:,} of them used"
    return (
        f"{inputs.name}, {inputs.recipe}: context length {inputs.context_length:,} tokens{used}, "
        f"prefill chunk {inputs.prefill_chunk}"
    )


def remedy_lines(asked: Asked, found: "Sequence[Fit]", *, verbose: bool) -> "Iterator[str]":
    """Yield the commands that make it fit, once for all devices that have the same.

    Args:
        verbose: whether those follow that make a bundle tight that will not fit.
    """
    devices: dict[tuple[str, ...], list[str]] = {}
    for one in found:
        if one.result.status != "fits":
            lines = _remedies_of(asked, one, verbose=verbose)
            devices.setdefault((one.backend, *lines), []).append(one.budget.name)
    for (backend, first, *others), names in devices.items():
        yield f"{backend} on {', '.join(names)}: {first}"
        yield from others


def _remedies_of(asked: Asked, one: "Fit", *, verbose: bool) -> tuple[str, ...]:
    fits = _commands_to(asked, one, "fits")
    tight = _commands_to(asked, one, "tight") if one.result.status == "will not fit" else ()
    if fits:
        lines = ["to make it fit:", *fits]
    elif tight:
        hint = "" if verbose else " (see -v)"
        lines = [f"no option that was tried makes it fit; some make it tight{hint}"]
    else:
        # Not every combination is tried.
        lines = ["no option that was tried makes it fit; try several at once, or a smaller model"]
    if verbose and tight:
        lines += ["to make it tight:", *tight]
    return tuple(lines)


def _commands_to(asked: Asked, one: "Fit", status: "FitStatus") -> tuple[str, ...]:
    changes = [change for change in one.changes if change.status == status]
    return tuple(f"  {command_of(asked, change)}" for change in changes[:_MOST_CHANGES])


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


def _print_details(console: Any, found: "Sequence[Fit]") -> None:
    """Print each prediction once, and what it was compared with on each device."""
    devices: dict[tuple[str, Prediction], list[Fit]] = {}
    for one in found:
        devices.setdefault((one.backend, one.prediction), []).append(one)
    for (backend, prediction), same in devices.items():
        architectures = dict.fromkeys(one.budget.architecture for one in same)
        console.print(f"{backend}, {', '.join(architectures)}:", markup=False)
        _print_parts(console, prediction)
        for one in same:
            for reason in one.result.reasons:
                console.print(f"{one.budget.name}: {reason}", markup=False)


def _print_parts(console: Any, prediction: "Prediction") -> None:
    from rich.table import Table

    from pocketlm.device_tests.quantities import size_text

    table = Table("part", "kind", "bytes", "how")
    table.columns[2].justify = "right"
    for part in prediction.parts:
        table.add_row(part.part, part.kind, size_text(part.size_bytes), part.arithmetic)
    table.add_section()
    table.add_row("all", "dirty", size_text(prediction.dirty_bytes), "cannot be read again")
    table.add_row("all", "clean", size_text(prediction.clean_bytes), "pages of files, read again")
    is_while_loading = prediction.load_peak_bytes > prediction.resident_bytes
    how = f"while loading: {prediction.load_arithmetic}" if is_while_loading else "dirty and clean"
    table.add_row("peak", "", size_text(prediction.peak_bytes), how)
    console.print(table)
