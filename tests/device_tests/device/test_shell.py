"""Shell text: what a shell of this machine makes of it."""

import subprocess

import pytest

from pocketlm.device_tests.device.shell import (
    check,
    files_section,
    has_begun,
    quote,
    read_marks,
    read_sections,
    section,
    with_marks,
)
from pocketlm.device_tests.device.target import Finished, RefusedError
from pocketlm.device_tests.errors import DeviceError


def shell(text: str) -> str:
    done = subprocess.run(["/bin/sh", "-c", text], capture_output=True, text=True, check=False)
    return done.stdout


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("echo hello", Finished(0, "hello\n")),
        ("printf 'no line end'; exit 3", Finished(3, "no line end")),
        ("echo to stderr >&2", Finished(0, "to stderr\n")),
        ("cat", Finished(0, "")),
        ("kill -9 $$", Finished(137, "Killed\n")),
        ('echo "it\'s" $((1 + 1))', Finished(0, "it's 2\n")),
    ],
)
def test_end_mark_brings_back_the_status(command: str, expected: Finished) -> None:
    assert read_marks(shell(with_marks(command, "n1")), "n1") == expected


def test_syntax_error_cannot_take_the_mark_away() -> None:
    done = read_marks(shell(with_marks("echo 'open", "n1")), "n1")
    assert done is not None
    assert done.status != 0


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 12])
def test_cut_output_has_no_mark(cut: int) -> None:
    whole = shell(with_marks("echo hello; exit 137", "n1"))
    assert read_marks(whole, "n1") == Finished(137, "hello\n")
    # Cut within the status, another status would stand there.
    assert read_marks(whole[: len(whole) - cut], "n1") is None


@pytest.mark.parametrize(
    "before", ["Welcome\n", "Welcome", "\x1b[1mHi\x1b[0m", "@@begin n2\n@@end n1 0\n"]
)
@pytest.mark.parametrize("after", ["", "Bye\n", "\x1b[0m"])
def test_what_stands_outside_the_marks_is_no_output(before: str, after: str) -> None:
    said = before + shell(with_marks("echo hello", "n1")) + after
    assert read_marks(said, "n1") == Finished(0, "hello\n")
    assert has_begun(said, "n1")
    assert not has_begun(before + after, "n1")


def test_the_command_itself_shown_by_the_shell_is_no_mark() -> None:
    """A start file may switch that on (`set -v`)."""
    text = with_marks("echo hello", "n1")
    assert read_marks(text + "\n" + shell(text), "n1") == Finished(0, "hello\n")
    assert read_marks(text, "n1") is None and not has_begun(text, "n1")


def test_mark_of_another_command_does_not_count() -> None:
    assert read_marks(shell(with_marks("echo hello", "n1")), "n2") is None


HELLO = "hello\r\n\r\n@@end n1 0\r\n"


def test_line_ends_of_old_daemons_are_read() -> None:
    assert read_marks(f"@@begin n1\r\n{HELLO}", "n1") == Finished(0, "hello\r\n")


def test_sections_come_back_by_name() -> None:
    text = "; ".join(
        (
            section("one", "echo 1; echo 2"),
            section("empty", "false"),
            files_section("missing", ("/no/such/file",)),
            section("last", "printf 'no line end'"),
        )
    )
    assert read_sections(shell(text)) == {
        "one": "1\n2",
        "empty": "",
        "missing": "",
        "last": "no line end",
    }


def test_quoted_words_are_one_word() -> None:
    word = "a b'c\"d$e`f"
    assert shell(f"printf %s {quote(word)}") == word


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("cat: write error: No space left on device", "no_space"),
        ("mkdir: cannot create directory '/x': Permission denied", "permission"),
        ("touch: /system/x: Read-only file system", "permission"),
    ],
)
def test_refusals_carry_their_reason(said: str, reason: str) -> None:
    with pytest.raises(RefusedError, match="adb:1: writing /x: ") as error:
        check(Finished(1, said), "adb:1: writing /x")
    assert error.value.reason == reason


def test_missing_tool_is_named() -> None:
    with pytest.raises(DeviceError, match="it needs sha256sum, which coreutils and toybox"):
        check(Finished(127, "sh: sha256sum: inaccessible or not found\n"), "adb:1: checking /x")
    with pytest.raises(DeviceError, match="it needs sha256sum"):
        check(Finished(127, "sh: 1: sha256sum: not found\n"), "ssh:pi: checking /x")
