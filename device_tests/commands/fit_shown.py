"""What `fit` prints: a line for each device, what would help, the arithmetic if asked."""

import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from device_tests.changes import Change
    from device_tests.fit import Fit
    from runtime_py.manifest import Manifest

# More ways than these help nobody to choose.
_MOST_CHANGES = 3
_STYLES = {"fits": "green", "tight": "yellow", "will not fit": "bold red"}
_RANKS = {"fits": 0, "tight": 1, "will not fit": 2}
_PACKED = "--packed-cache"


def print_fits(what: str, manifest: "Manifest", found: "list[Fit]", *, verbose: bool) -> None:
    """Print the answers.

    Args:
        what: as it was typed.
        verbose: whether parts of memory and reasons follow.
    """
    from runtime_py.terminal import make_console

    console = make_console()
    _print_summary(console, manifest, found)
    for one in found:
        _print_remedies(console, what, one)
    if not verbose:
        console.print("arithmetic: --verbose", style="dim")
        return
    for backend in dict.fromkeys(one.backend for one in found):
        ours = [one for one in found if one.backend == backend]
        _print_parts(console, ours[0])
        for one in ours:
            for reason in one.judgement.reasons:
                console.print(f"{one.room.name}: {reason}")


def _print_summary(console: Any, manifest: "Manifest", found: "list[Fit]") -> None:
    from rich.table import Table
    from rich.text import Text

    from device_tests.report.quantities import size_text

    console.print(
        f"{manifest.name}, {manifest.recipe}: {found[0].positions.tokens:,} of "
        f"{manifest.context_length:,} positions, chunks of {manifest.prefill_chunk}",
        markup=False,
    )
    table = Table("device", "backend", "answer", "dirty", "at most", "peak", "available", box=None)
    for column in table.columns[3:]:
        column.justify = "right"
    for one in found:
        answer = one.judgement.answer
        prediction, room = one.prediction, one.room
        sizes = (
            prediction.dirty_bytes, room.most_bytes, prediction.peak_bytes, room.available_bytes,
        )  # fmt: skip
        shown = map(size_text, sizes)
        table.add_row(room.name, one.backend, Text(answer, _STYLES[answer]), *shown)
    console.print(table)


def _print_remedies(console: Any, what: str, one: "Fit") -> None:
    answer = one.judgement.answer
    helps = [change for change in one.changes if _RANKS[change.answer] < _RANKS[answer]]
    if answer == "fits":
        return
    console.print(f"{one.room.name}, {one.backend}: {answer}; it would")
    for change in helps[:_MOST_CHANGES]:
        verb = "fit" if change.answer == "fits" else "be tight"
        console.print(f"  {verb} with {command_of(what, change)}", soft_wrap=True)
    if not helps:
        console.print("  do no better with any change of the build; choose a smaller model")


def command_of(what: str, change: "Change") -> str:
    """Return what to type for a change: a build, a run, or both."""
    words = change.what.split()
    run = "pocketlm profile BUNDLE --on DEVICE --packed-cache" if _PACKED in words else ""
    options = " ".join(word for word in words if word != _PACKED)
    build = f"pocketlm build {shlex.quote(what)} --out BUNDLE {options}" if options else ""
    return ", then ".join(part for part in (build, run) if part)


def _print_parts(console: Any, one: "Fit") -> None:
    from rich.table import Table

    from device_tests.report.quantities import size_text

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
