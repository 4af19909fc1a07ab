"""Text from files and devices cannot command the terminal that shows it."""

import unicodedata

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress
from rich.table import Table

from pocketlm import main
from pocketlm.runtime_py.manifest import Manifest
from pocketlm.runtime_py.terminal import (
    bar_text,
    make_console,
    one_line,
    printable,
    printable_line,
    say,
    say_error,
)
from tests.runtime_py.conftest import FakeBundle

HOSTILE = "\x1b[2J\x1b]0;title\x07\u009b31m\u202eoht\ud800\r[/red][link=file:///x]"


def hidden(text: str) -> set[str]:
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\n"}


def test_what_cannot_be_shown_is_escaped() -> None:
    assert printable("a\x1b[31mb\n\u202ec\ud800 é €") == "a\\x1b[31mb\n\\u202ec\\ud800 é €"


@given(st.text())
def test_any_text_becomes_harmless_and_stays_so(text: str) -> None:
    shown = printable(text)
    assert not hidden(shown)
    assert printable(shown) == shown
    assert printable(text + "plain").endswith("plain")


@given(st.text())
def test_a_cell_is_one_line_of_harmless_text(text: str) -> None:
    shown = printable_line(text)
    assert shown.isprintable()
    shown.encode("utf-8")


def test_ends_of_lines_in_a_cell_are_spaces() -> None:
    assert printable_line("a\nb\tc\rd\x1b[0m") == "a b c d\\x1b[0m"


def test_a_message_is_one_line_however_long_its_reason_is() -> None:
    assert one_line("a: b\nc\r\nd; do e") == "a: b c d; do e"
    line = one_line("a: " + "x" * 5000 + "; do e")
    assert len(line) < 1100
    assert line.startswith("a: x")
    assert line.endswith("; do e")


def test_a_mistake_is_one_escaped_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say_error("a\nb\x07; do c")
    assert capsys.readouterr() == ("", "error: a b\\x07; do c\n")


def test_a_line_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE, "two")
    assert hidden(capsys.readouterr().out) == set()


def test_a_console_escapes_text_and_cells_and_takes_no_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console = make_console(soft_wrap=True)
    console.print(HOSTILE)
    table = Table("column", HOSTILE)
    table.add_row("cell", HOSTILE)
    console.print(table)
    shown = capsys.readouterr().out
    assert hidden(shown) == set()
    assert "[/red][link=file:///x]" in shown


def test_a_bar_escapes_its_description(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(console=make_console()) as progress:
        progress.add_task(bar_text(HOSTILE), total=1)
    assert hidden(capsys.readouterr().out) == set()


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_a_manifest_cannot_command_the_terminal(fake_bundle: FakeBundle, command: str) -> None:
    fake_bundle.write_manifest(
        name=HOSTILE, recipe=HOSTILE, notes=(HOSTILE,), build={HOSTILE: HOSTILE}
    )
    shown = CliRunner().invoke(main, [command, str(fake_bundle.folder)])
    assert shown.exception is None, shown.output
    assert hidden(shown.output) == set()
    assert ("\\x1b[2J" in shown.output) == (command == "inspect")


def test_an_error_cannot_command_the_terminal(fake_bundle: FakeBundle) -> None:
    template = "{{ raise_exception('\\x1b[2Jno') }}"
    fake_bundle.write("chat_template.jinja", template)
    shown = CliRunner().invoke(main, ["run", str(fake_bundle.folder), "--prompt", "a"])
    assert shown.exit_code == 2
    assert "refuses these messages: \\x1b[2Jno" in shown.output


def test_the_manifest_itself_keeps_what_was_written(fake_bundle: FakeBundle) -> None:
    fake_bundle.write_manifest(name="\x1b[2J")
    text = (fake_bundle.folder / "manifest.json").read_text()
    assert Manifest.from_json(text).name == "\x1b[2J"
