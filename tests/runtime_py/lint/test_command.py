"""`pocketlm lint`: what it prints, and its exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pocketlm.runtime_py.commands.inspect_bundle import inspect_bundle
from pocketlm.runtime_py.commands.lint import lint
from pocketlm.runtime_py.lint import comparison
from pocketlm.runtime_py.readings import ReadingDifference, Readings, RuntimeReading

KNOWN = ReadingDifference("text with NUL", 2, "\\x00", "NUL ends the text", "take it out", True)
UNKNOWN = ReadingDifference("text: code", 1, "a\\n", "found ids [1]", "compare", False)


def linted(monkeypatch: pytest.MonkeyPatch, *differences: ReadingDifference) -> CliRunner:
    readings: Readings = {"genai": RuntimeReading("0.18.0", 426, 13, differences)}
    monkeypatch.setattr(comparison, "read_alike", lambda bundle, others: readings)
    return CliRunner()


def run(runner: CliRunner, folder: Path, *options: str) -> Result:
    return runner.invoke(lint, [str(folder), *options])


def test_known_differences_are_named_with_advice_and_do_not_fail(
    fake_bundle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(linted(monkeypatch, KNOWN), fake_bundle.folder)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "genai 0.18.0 read 426 texts and 13 chats: 2 known differences, 0 unknown",
        'known: genai: text with NUL (2, such as "\\x00"): NUL ends the text; take it out',
    ]


def test_an_unknown_difference_fails(fake_bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(linted(monkeypatch, KNOWN, UNKNOWN), fake_bundle.folder)
    assert result.exit_code == 1
    assert "UNKNOWN: genai: text: code" in result.stdout


def test_json_has_every_difference(fake_bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = linted(monkeypatch, UNKNOWN)
    result = run(runner, fake_bundle.folder, "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert document["passed"] is False
    assert document["runtimes"]["genai"]["differences"][0]["kind"] == "text: code"


def test_without_a_stock_runtime_it_says_what_to_install(
    fake_bundle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "read_alike", lambda bundle, others: {})
    result = run(CliRunner(), fake_bundle.folder)
    assert result.exit_code == 0
    assert "pip install pytorch_tokenizers onnxruntime-genai" in result.stdout


def test_inspect_shows_what_the_build_found(fake_bundle: Any) -> None:
    reading = RuntimeReading("0.18.0", 426, 13, (KNOWN,))
    fake_bundle.write_manifest(readings={"genai": reading})
    result = CliRunner().invoke(inspect_bundle, [str(fake_bundle.folder)])
    assert "genai 0.18.0 read 426 texts and 13 chats: 2 known differences" in result.stdout
    assert fake_bundle.open().manifest.readings == {"genai": reading}
