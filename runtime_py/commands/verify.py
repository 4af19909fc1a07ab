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
    from pocketlm.runtime_py.verification_result import CaseResult, VerificationResult

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

    results = []
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

            results.append(verification.verify(bundle, name, threads, replayed, strict=strict))
    if not results:
        raise RunError("; ".join(not_checked.values()) or f"{folder}: the bundle has no artifact")
    passed = all(result.passed for result in results)
    if as_json:
        document = {
            "bundle": str(bundle.folder),
            "passed": passed,
            "not_checked": not_checked,
            "backends": {result.backend: result.to_document() for result in results},
        }
        click.echo(json.dumps(document, indent=1))
    else:
        for result in results:
            _print(folder, result)
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


def _print(folder: str, result: "VerificationResult") -> None:
    from rich.table import Table

    from pocketlm.runtime_py.terminal import make_console

    console = make_console(soft_wrap=True)
    table = Table("case", "replayed", "steps", "near ties", "largest error / std", "")
    for case in result.cases:
        table.add_row(*_row(case, case.replay))
    for case in result.strict.cases:
        table.add_row(*_row(case, f"strict, {case.replay}"))
    console.print(table)
    for mismatch in result.mismatches[:_MOST_SHOWN]:
        step = "" if mismatch.step is None else f", step {mismatch.step}"
        place = "" if mismatch.position is None else f", position {mismatch.position}"
        console.print(
            f"{mismatch.check}: {mismatch.case}{step}{place}: expected {mismatch.expected}, "
            f"found {mismatch.found}"
        )
    hidden = len(result.mismatches) - _MOST_SHOWN
    if hidden > 0:
        console.print(f"and {hidden} more; --json has all")
    state = "verified" if result.passed else "DIFFERS from its golden answers"
    console.print(
        f"{folder} on {result.backend}: {state}; {result.tokenizer_cases} texts, "
        f"{result.chat_cases} chats, largest logit error {result.max_logit_error_std:.2g} of "
        f"{result.tolerance_std:.2g} std allowed, {result.near_ties} near ties"
    )
    for line in _proof(result):
        console.print(f"  {line}")


def _row(case: "CaseResult", replayed: str) -> tuple[str, ...]:
    error, mark = f"{case.max_logit_error_std:.2g}", "ok" if case.passed else "DIFFERS"
    return case.name, replayed, str(case.steps), str(case.near_ties), error, mark


def _proof(result: "VerificationResult") -> Iterator[str]:
    """Yield what the result rests on besides the largest error."""
    strict, statistics = result.strict, result.statistics
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
    if result.coverage.not_touched:
        yield f"not touched: {'; '.join(result.coverage.not_touched)}"
