"""pocketlm verify: is each artifact what was built?"""

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from pocketlm.runtime_py.commands.flags import bundle_argument, json_option, threads_option
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.terminal import say

if TYPE_CHECKING:
    from pocketlm.runtime_py.bundle import Bundle
    from pocketlm.runtime_py.verdict import CaseVerdict, Verdict

# More differences than this say nothing new at a terminal; --json has all.
_MOST_SHOWN = 20


@click.command(short_help="Check a bundle against its golden answers.")
@bundle_argument
@click.option(
    "--backend", "backends", multiple=True, metavar="NAME", help="Repeat for several. Default: all."
)
@click.option(
    "--strict/--no-strict",
    default=None,
    help="Run each artifact also without rounded activations. Default: where that takes at most "
    "2 GiB more memory.",
)
@threads_option
@json_option
def verify(
    folder: str,
    backends: tuple[str, ...],
    strict: bool | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Replay BUNDLE's golden answers on its artifacts; exit code 1 if any differs.

    Without --backend, an artifact whose runtime is not installed is named as NOT
    CHECKED, and the exit code is that of the others; 2 if none could be checked.

    \b
    pocketlm verify pico
    pocketlm verify pico --backend onnx --json
    pocketlm verify gemma --strict
    """
    from rich.progress import Progress

    from pocketlm.runtime_py import verification
    from pocketlm.runtime_py.bundle import open_bundle
    from pocketlm.runtime_py.terminal import bar_text, make_console

    verdicts = []
    with Progress(console=make_console(stderr=True), transient=True) as progress:
        task = progress.add_task("sha256", total=None)

        def hashed(done: int, total: int, path: str) -> None:
            progress.update(
                task, completed=done, total=total, description=bar_text(f"sha256 {path}")
            )

        bundle = open_bundle(folder, advance=hashed)
        present = sorted(bundle.manifest.backends)
        not_checked = {} if backends else _without_runtime(bundle)
        for name in backends or (name for name in present if name not in not_checked):

            def replayed(done: int, total: int, what: str, name: str = name) -> None:
                shown = bar_text(f"{name} {what}")
                progress.update(task, completed=done, total=total, description=shown)

            verdicts.append(verification.verify(bundle, name, threads, replayed, strict=strict))
    if not verdicts:
        raise RunError("; ".join(not_checked.values()) or f"{folder}: the bundle has no artifact")
    passed = all(verdict.passed for verdict in verdicts)
    if as_json:
        document = {
            "bundle": str(bundle.folder),
            "passed": passed,
            "not_checked": not_checked,
            "backends": {verdict.backend: verdict.to_document() for verdict in verdicts},
        }
        click.echo(json.dumps(document, indent=1))
    else:
        for verdict in verdicts:
            _print(folder, verdict)
        for name, reason in not_checked.items():
            say(f"{folder} on {name}: NOT CHECKED: {reason}")
    if not passed:
        sys.exit(1)


def _without_runtime(bundle: "Bundle") -> dict[str, str]:
    """Return the backends of a bundle that cannot run here, each with what to install."""
    from pocketlm.runtime_py import engines
    from pocketlm.runtime_py.runtime_versions import check_versions

    reasons = {}
    for name, entry in bundle.manifest.backends.items():
        try:
            check_versions(engines.load(name), entry.runtime_floor)
        except RunError as error:
            reasons[name] = str(error)
    return reasons


def _print(folder: str, verdict: "Verdict") -> None:
    from rich.table import Table

    from pocketlm.runtime_py.terminal import make_console

    console = make_console(soft_wrap=True)
    table = Table("case", "replayed", "steps", "near ties", "largest error / std", "")
    for case in verdict.cases:
        table.add_row(*_row(case, case.replay))
    for case in verdict.strict.cases:
        table.add_row(*_row(case, f"strict, {case.replay}"))
    console.print(table)
    for mismatch in verdict.mismatches[:_MOST_SHOWN]:
        step = "" if mismatch.step is None else f", step {mismatch.step}"
        place = "" if mismatch.position is None else f", position {mismatch.position}"
        console.print(
            f"{mismatch.check}: {mismatch.case}{step}{place}: expected {mismatch.expected}, "
            f"found {mismatch.found}"
        )
    hidden = len(verdict.mismatches) - _MOST_SHOWN
    if hidden > 0:
        console.print(f"and {hidden} more; --json has all")
    state = "verified" if verdict.passed else "DIFFERS from its golden answers"
    console.print(
        f"{folder} on {verdict.backend}: {state}; {verdict.tokenizer_cases} texts, "
        f"{verdict.chat_cases} chats, largest logit error {verdict.max_logit_error_std:.2g} of "
        f"{verdict.tolerance_std:.2g} std allowed, {verdict.near_ties} near ties"
    )
    for line in _proof(verdict):
        console.print(f"  {line}")


def _row(case: "CaseVerdict", replayed: str) -> tuple[str, ...]:
    error, mark = f"{case.max_logit_error_std:.2g}", "ok" if case.passed else "DIFFERS"
    return case.name, replayed, str(case.steps), str(case.near_ties), error, mark


def _proof(verdict: "Verdict") -> Iterator[str]:
    """Yield what the verdict rests on besides the largest error."""
    strict, statistics = verdict.strict, verdict.statistics
    if strict.cases:
        yield (
            f"strict, activations not rounded: {strict.state}; largest logit error "
            f"{strict.max_logit_error_std:.2g} of {strict.tolerance_std:.2g} std allowed"
        )
    else:
        yield f"strict: {strict.state}, {strict.reason}"
    if statistics.rows:
        yield (
            f"over {statistics.rows} rows: median error {statistics.median_std:.2g} of "
            f"{statistics.allowed_median_std:.2g}, mean {statistics.mean_std:.2g} of "
            f"{statistics.allowed_mean_std:.2g} std allowed"
        )
    if verdict.coverage.not_touched:
        yield f"not touched: {'; '.join(verdict.coverage.not_touched)}"
