"""pocketlm profile: files, exit codes, and what is refused before anything runs."""

import errno
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pocketlm import main
from pocketlm.device_tests.commands import profile_bundle
from pocketlm.device_tests.commands.profile_bundle import exit_code
from pocketlm.device_tests.job.verdict import MEASURED, Verdict
from pocketlm.device_tests.profiling.document import Answers, Report
from tests.device_tests.report.sample_reports import failed_report, sample_report


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["profile", *map(str, arguments)])


@dataclass(frozen=True)
class Files:
    """What two profiles on this machine left."""

    json: tuple[Path, Path]
    html: Path
    results: tuple[Result, Result]


@pytest.fixture(scope="module")
def files(
    pico_bundle: Path, compiling_commands: None, tmp_path_factory: pytest.TempPathFactory
) -> Files:
    folder = tmp_path_factory.mktemp("reports")
    made = (folder / "a.json", folder / "b.json")
    html = folder / "b.html"
    common = (pico_bundle, "--on", "host", "--backend", "onnx", "--decode-tokens", 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "100")
        first = invoke(*common, "--prompt-tokens", 40, "--out", made[0], "--no-verify")
        # As many prompt tokens as there is room for: 512 less 8.
        second = invoke(*common, "--out", made[1], "--html", html, "--json", "--threads", 1)
    return Files(made, html, (first, second))


def report_of(path: Path) -> Report:
    return Report.from_json(path.read_text(), path.name)


def test_reports_are_written_and_shown(files: Files) -> None:
    first, second = map(report_of, files.json)
    for report, result in zip((first, second), files.results, strict=True):
        assert report.verdict in MEASURED and report.verdict != "wrong_answers"
        assert result.exit_code == exit_code(report)
    assert "part" in files.results[0].stdout and "weights, packed" in files.results[0].stdout
    assert files.results[1].stdout == files.json[1].read_text()
    assert files.html.read_text().lower().startswith("<!doctype html>")
    assert "running on host" in files.results[0].stderr


def test_options_are_taken_over(files: Files) -> None:
    first, second = map(report_of, files.json)
    assert (first.run.prompt_tokens, first.run.decode_tokens) == (40, 8)
    assert (second.run.prompt_tokens, second.run.decode_tokens) == (504, 8)
    assert first.answers is None
    assert second.answers is not None and second.answers.passed
    assert second.run.threads == 1


def test_two_reports_are_compared(files: Files) -> None:
    result = invoke("--compare", *files.json)
    assert result.exit_code == 0
    assert "KV cache, global" in result.stdout
    document = json.loads(invoke("--compare", *files.json, "--json").stdout)
    assert isinstance(document, dict) and document


def test_what_is_no_report_is_not_compared(files: Files, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.json"
    nonsense.write_text('{"verdict": "fine"}')
    for other, message in (
        (nonsense, "this is not a report of pocketlm profile"),
        (tmp_path / "missing.json", "cannot be read"),
        (tmp_path, "cannot be read"),
        (files.html, "this is not a report of pocketlm profile"),
    ):
        result = invoke("--compare", files.json[0], other)
        assert result.exit_code == 2
        assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompt-tokens", 500), "500 prompt tokens and 64 decoded ones are 564; the bundle has"),
        (("--prompt-tokens", 10**12), "the bundle has room for 512"),
        (("--prompt-tokens", 0), "at least one of each"),
        (("--prompt-tokens", -3), "at least one of each"),
        (("--decode-tokens", 0), "at least one of each"),
        (("--decode-tokens", 512), "are 513; the bundle has room for 512"),
        (("--backend", "tflite"), "has no such artifact, only executorch, onnx"),
        (("--backend", "onnx", "--packed-cache"), "--packed-cache: only executorch keeps"),
        (("--out", "missing/report.json"), "missing/report.json: there is no folder"),
        (("--html", "missing/report.html"), "missing/report.html: there is no folder"),
        (("--out", "."), ". is a folder; name a file in it"),
        (("--threads", 0), "--threads"),
        (("--timeout", 0), "--timeout"),
        (("--on", "fridge"), "--on fridge: unknown; known: adb, host, ssh"),
        (("--on", "hots"), "did you mean host?"),
    ],
)
def test_wrong_input_exits_with_2_before_anything_runs(
    pico_bundle: Path,
    arguments: tuple[object, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("this must be refused")

    monkeypatch.setattr("pocketlm.device_tests.profiling.pipeline.payload", never)
    monkeypatch.chdir(tmp_path)
    result = invoke(pico_bundle, "--on", "host", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [(), ("some-bundle",), ("--on", "host")])
def test_a_bundle_and_a_device_are_needed(arguments: Sequence[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "name a BUNDLE and a device with --on" in result.stderr


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    result = invoke(tmp_path, "--on", "host")
    assert result.exit_code == 2
    assert "is no bundle" in result.stderr


def test_a_run_that_failed_is_written_and_exits_with_3(
    pico_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile_bundle, "run_profile", lambda *arguments: failed_report())
    out, html = tmp_path / "r.json", tmp_path / "r.html"
    result = invoke(pico_bundle, "--on", "adb", "--out", out, "--html", html)
    assert result.exit_code == 3
    assert report_of(out) == failed_report()
    assert "unauthorized" in html.read_text()
    assert "unauthorized" in result.stdout


@pytest.mark.parametrize("flag", ["--out", "--html"])
def test_a_place_that_cannot_be_written_is_refused_before_the_run(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("this must be refused")

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(profile_bundle, "run_profile", never)
    monkeypatch.setattr("pocketlm.device_tests.commands.saving.tempfile.TemporaryFile", full)
    result = invoke("bundle", "--on", "host", flag, tmp_path / "r")
    assert result.exit_code == 2
    assert "cannot be written (Read-only file system); name another file" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_report_that_cannot_be_written_at_the_end_is_kept_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
    there.mkdir()
    elsewhere.mkdir()

    def run(*arguments: object) -> Report:
        there.rmdir()
        return sample_report()

    monkeypatch.setattr(profile_bundle, "run_profile", run)
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    out, html = there / "r.json", there / "r.html"
    result = invoke("bundle", "--on", "host", "--out", out, "--html", html)
    assert result.exit_code == 0
    kept = {path.suffix: path for path in elsewhere.iterdir()}
    assert report_of(kept[".json"]) == sample_report()
    assert "<!doctype html>" in kept[".html"].read_text().lower()
    for path in kept.values():
        assert f"it is in {path}" in result.stderr.replace("\n", "")


FINE = Answers(96, 0.02, 0.25, 0, (), passed=True)
WRONG = replace(FINE, passed=False)


@pytest.mark.parametrize(
    ("verdict", "answers", "as_predicted", "expected"),
    [
        ("ok", FINE, True, 0),
        ("ok", None, None, 0),
        ("ok", FINE, False, 1),
        ("wrong_answers", WRONG, True, 1),
        # Sizes of a throttled run stand; those of one under pressure are too small.
        ("throttled", FINE, True, 0),
        ("throttled", FINE, False, 1),
        ("under_pressure", FINE, False, 0),
        ("under_pressure", WRONG, True, 1),
        ("throttled", WRONG, True, 1),
        ("oom_killed", None, None, 3),
        ("timeout", None, False, 3),
        ("lost_device", None, None, 3),
    ],
)
def test_exit_codes(
    verdict: Verdict, answers: Answers | None, as_predicted: bool | None, expected: int
) -> None:
    ledger: Any = None
    if as_predicted is not None:
        whole = sample_report().ledger
        assert whole is not None
        ledger = replace(whole, passed=as_predicted)
    report = replace(sample_report(), verdict=verdict, answers=answers, ledger=ledger)
    assert exit_code(report) == expected
