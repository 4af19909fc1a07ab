"""pocketlm chat."""

import os
import re
import signal
import sys
from contextlib import suppress
from typing import Any

import pytest

from tests.runtime_py.commands.program import Invoke


def test_chat_answers_line_by_line(invoke: Invoke, fake_bundle: Any) -> None:
    result = invoke("chat", stdin="hello\n\n/reset\nhello\n/exit\nnever read\n")
    assert result.exit_code == 0
    assert result.stdout == "fine €.\nfine €.\n"
    assert "begun anew" in result.stderr
    assert result.stderr.count("ended by a stop token") == 2
    assert fake_bundle.model.resets == 1
    assert fake_bundle.model.closed


def test_undo_takes_the_last_turn_back(invoke: Invoke, fake_bundle: Any) -> None:
    result = invoke("chat", stdin="ab\n/undo\nhello\n")
    assert "taken back: ab\n" in result.stderr
    # The question that follows is the first one again.
    assert result.stdout.endswith("fine €.\n")


def test_retry_asks_the_last_message_again(invoke: Invoke, fake_bundle: Any) -> None:
    result = invoke("chat", "--max-new-tokens", "2", stdin="hello\n/retry\n")
    assert result.stdout == "fi\nfi\n"
    # Only the prompt's last token is processed again.
    assert "prompt 1 tokens in " in result.stderr


@pytest.mark.parametrize("command", ["/undo", "/retry"])
def test_nothing_can_be_taken_back_before_the_first_message(invoke: Invoke, command: str) -> None:
    result = invoke("chat", stdin=f"{command}\nhello\n")
    assert f"error: {command}: nothing was asked yet" in result.stderr
    assert result.stdout == "fine €.\n"


def test_chat_ends_with_its_input(invoke: Invoke) -> None:
    assert invoke("chat", stdin="").exit_code == 0


def test_chat_goes_on_after_a_mistake(invoke: Invoke) -> None:
    stdin = b"\xff\n" + b"x" * 99 + b"\nhello\n"
    result = invoke("chat", stdin=stdin)
    assert result.exit_code == 0
    assert "error: the message is not valid UTF-8: byte 0xff at offset 0" in result.stderr
    assert "error: context full: this message alone" in result.stderr
    assert result.stdout == "fine €.\n"


def test_chat_says_how_many_old_messages_a_full_context_left_out(
    invoke: Invoke, fake_bundle: Any
) -> None:
    result = invoke("chat", "--max-new-tokens", "1", stdin="ab\n" * 4)
    assert result.exit_code == 0
    # 15 tokens a question, 16 with its answer, of 64.
    notices = re.findall(
        r"\[context full: the (\d+) oldest messages were left out\]", result.stderr
    )
    assert notices and all(int(count) % 2 == 0 for count in notices)
    assert result.stderr.count("answer 1 tokens") == 4


def test_ctrl_c_ends_an_answer_and_the_chat_goes_on(invoke: Invoke, fake_bundle: Any) -> None:
    pressed: list[int] = []

    def press_once(model: Any) -> None:
        # The prompt is 17 tokens.
        if not pressed and len(model.history) == 19:
            pressed.append(len(model.calls))
            os.kill(os.getpid(), signal.SIGINT)

    fake_bundle.model.on_run = press_once
    result = invoke("chat", stdin="hello\n/reset\nhello\n")
    assert result.exit_code == 0
    assert "interrupted" in result.stderr
    assert result.stdout.endswith("fine €.\n")
    assert fake_bundle.model.resets == 1


def test_ctrl_c_at_the_prompt_ends_the_chat(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(prompt: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True)
    monkeypatch.setattr("builtins.input", press)
    assert invoke("chat").exit_code == 130


def asked(fake_bundle: Any) -> str:
    """Return the text of everything that the model was given."""
    given = [token for _, tokens in fake_bundle.model.calls for token in tokens]
    return str(fake_bundle.tokenizer.decode(given))


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("/help", "/reset   begins anew"),
        ("/hepl", "error: /hepl: no such command; did you mean /help?"),
        ("/resett now", "error: /resett now: no such command; did you mean /reset?"),
        (
            "/frobnicate",
            "error: /frobnicate: no such command; known: /help, /undo, /retry, /reset, /exit;",
        ),
    ],
)
def test_what_looks_like_a_command_is_answered_here(
    line: str, answer: str, invoke: Invoke, fake_bundle: Any
) -> None:
    result = invoke("chat", stdin=f"{line}\nhello\n")
    assert answer in result.stderr
    assert result.stdout == "fine €.\n"
    assert asked(fake_bundle).startswith("user\nhello\n")


@pytest.mark.parametrize("word", ["/exit", "/quit", "/bye", "exit", "quit", "Exit"])
def test_words_that_end_a_chat_are_not_sent(word: str, invoke: Invoke, fake_bundle: Any) -> None:
    assert invoke("chat", stdin=f"{word}\nhello\n").stdout == ""
    assert fake_bundle.model.calls == []


@pytest.mark.parametrize("line", [" /help", "/usr/bin holds what", "exit now"])
def test_a_message_may_begin_as_a_command_does(line: str, invoke: Invoke, fake_bundle: Any) -> None:
    invoke("chat", "--max-new-tokens", "1", stdin=f"{line}\n")
    assert asked(fake_bundle).startswith(f"user\n{line.strip()}\n")


@pytest.mark.parametrize("end", ['"""\n', ""])
def test_several_lines_between_quotes_are_one_message(
    end: str, invoke: Invoke, fake_bundle: Any
) -> None:
    invoke("chat", "--max-new-tokens", "1", stdin=f'"""\nab\n/exit\n  cd\n{end}')
    assert asked(fake_bundle).startswith("user\nab\n/exit\n  cd\n")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pseudo-terminal")
def test_a_pasted_text_of_two_lines_is_one_message() -> None:
    import pty

    code = (
        "from pocketlm.runtime_py.commands.chat_input import next_typed\n"
        "typed = next_typed()\n"
        "print('typed', repr(typed.text))"
    )
    process, terminal = pty.fork()
    if process == 0:
        os.environ["TERM"] = "xterm"
        os.execv(sys.executable, [sys.executable, "-c", code])
    shown = b""
    while b"> " not in shown:
        shown += os.read(terminal, 1000)
    os.write(terminal, b"\x1b[200~one\ntwo\x1b[201~\r")
    with suppress(OSError):  # the other side closed it
        while block := os.read(terminal, 1000):
            shown += block
    os.waitpid(process, 0)
    assert b"typed 'one\\ntwo'" in shown


def test_chat_reads_lines_at_a_terminal(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter([" hello ", "/exit"])
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True)
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    assert invoke("chat").stdout == "fine €.\n"


def test_chat_needs_a_template(invoke: Invoke, fake_bundle: Any) -> None:
    fake_bundle.remove("chat_template.jinja")
    result = invoke("chat", stdin="hello\n")
    assert result.exit_code == 2
    assert "has no chat template" in result.stderr
