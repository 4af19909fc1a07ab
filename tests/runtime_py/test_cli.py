import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from runtime_py.cli import COMMANDS
from runtime_py.errors import RunError


class Program(click.Group):
    """Shows a RunError as the program does."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except RunError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(2)


PROGRAM = Program(commands=list(COMMANDS))
Invoke = Callable[..., Result]


@pytest.fixture
def invoke(fake_bundle: Any) -> Invoke:
    """Run a command on the fake bundle; its model answers a chat of "hello" with "fine €."."""
    ids = fake_bundle.tokenizer.encode
    chat = "<bos><start_of_turn>user\nhello<end_of_turn>\n<start_of_turn>model\n"
    fake_bundle.model.answers = {
        tuple(ids(chat)): [*ids("fine €."), 5],
        tuple(ids("<bos>hello")): [*ids(" well"), 5],
        tuple(ids("<bos>ab")): [*ids(" cd"), 1],
    }

    def call(command: str, *arguments: str, stdin: str | bytes | None = None) -> Result:
        result = CliRunner().invoke(
            PROGRAM, [command, str(fake_bundle.folder), *arguments], input=stdin
        )
        unexpected = result.exception
        if unexpected is not None and not isinstance(unexpected, SystemExit):
            raise unexpected
        return result

    return call


def test_the_commands_have_their_names() -> None:
    assert {command.name for command in COMMANDS} == {
        "inspect",
        "run",
        "chat",
        "verify",
        "lint",
        "export",
        "cache",
    }


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys, runtime_py.cli\n"
        "heavy = {'numpy', 'tokenizers', 'jinja2', 'rich', 'packaging'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("command", sorted(str(command.name) for command in COMMANDS))
def test_each_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(PROGRAM, [command, "--help"])
    assert result.exit_code == 0
    assert f"pocketlm {command}" in result.stdout


def test_run_prints_the_answer_and_puts_timings_on_stderr(invoke: Invoke) -> None:
    result = invoke("run", "--prompt", "hello")
    assert result.exit_code == 0
    assert result.stdout == "fine €.\n"
    assert "prompt 17 tokens in " in result.stderr
    assert "tokens/s" in result.stderr
    assert "ended by a stop token" in result.stderr


def test_run_raw_continues_the_prompt_with_its_space(invoke: Invoke, fake_bundle: Any) -> None:
    assert invoke("run", "--raw", "--prompt", "hello").stdout == " well\n"
    assert fake_bundle.model.calls[0] == (0, fake_bundle.tokenizer.encode_prompt("hello"))
    assert fake_bundle.model.closed


def test_run_without_a_template_continues_the_prompt(invoke: Invoke, fake_bundle: Any) -> None:
    fake_bundle.remove("chat_template.jinja")
    assert invoke("run", "--prompt", "ab").stdout == " cd\n"
    result = invoke("run", "--chat", "--prompt", "ab")
    assert result.exit_code == 2
    assert "has no chat template" in result.stderr
    assert "use pocketlm run --raw" in result.stderr


@pytest.mark.parametrize("text", ["ab", "ab\n"])
def test_run_reads_stdin_less_one_newline(invoke: Invoke, text: str) -> None:
    assert invoke("run", "--raw", "--prompt", "-", stdin=text).stdout == " cd\n"


def test_run_json_is_one_document_with_units(invoke: Invoke, fake_bundle: Any) -> None:
    result = invoke("run", "--raw", "--prompt", "ab", "--json", "--seed", "3")
    document = json.loads(result.stdout)
    assert result.stderr == ""
    assert document["text"] == " cd"
    assert document["token_ids"] == fake_bundle.tokenizer.encode(" cd")
    assert document["ended_by"] == "stop"
    assert document["backend"] == "onnx"
    assert (document["prompt_tokens"], document["generated_tokens"]) == (3, 3)
    assert document["context_length"] == 64
    assert document["sampling"]["temperature"] == 0
    assert document["sampling"]["seed"] == 3
    assert {"prefill_s", "decode_s", "prefill_tokens_per_s", "decode_tokens_per_s"} < set(document)


def test_run_takes_backend_threads_and_limit(
    invoke: Invoke, fake_bundle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime_py.commands.flags.processors", lambda: 3)
    result = invoke(
        "run", "--raw", "--prompt", "ab", "--backend", "executorch", "--threads", "3",
        "--max-new-tokens", "2",
    )  # fmt: skip
    assert result.stdout == " c\n"
    assert "ended by --max-new-tokens" in result.stderr
    assert fake_bundle.loads == ["executorch/model.bin"]
    assert fake_bundle.model.threads == 3


def test_run_says_when_the_context_ended_the_answer(invoke: Invoke, fake_bundle: Any) -> None:
    fake_bundle.model.answers = {tuple(fake_bundle.tokenizer.encode("<bos>hello")): [300] * 99}
    assert (
        "end of the context; build with a larger"
        in invoke("run", "--raw", "--prompt", "hello").stderr
    )


def test_run_passes_system_and_thinking_to_the_template(invoke: Invoke, fake_bundle: Any) -> None:
    fake_bundle.write(
        "chat_template.jinja",
        "{{ messages[0].role }}{{ messages | length }}{{ enable_thinking }}",
    )
    for flags, expected in (
        ((), "user1"),
        (("--no-think", "--system", "be brief"), "system2False"),
        (("--think",), "user1True"),
    ):
        fake_bundle.model.calls.clear()
        invoke("run", "--prompt", "ab", "--max-new-tokens", "1", *flags)
        ids = [token for _, tokens in fake_bundle.model.calls for token in tokens]
        assert fake_bundle.tokenizer.decode(ids) == expected


def test_run_uses_the_checkpoint_s_sampling_unless_told(invoke: Invoke, fake_bundle: Any) -> None:
    published = {"do_sample": True, "temperature": 0.6, "top_k": 20}
    fake_bundle.write("generation_config.json", json.dumps(published))
    arguments = ("run", "--raw", "--prompt", "ab", "--json", "--max-new-tokens", "1")
    sampling = json.loads(invoke(*arguments).stdout)["sampling"]
    assert (sampling["temperature"], sampling["top_k"], sampling["top_p"]) == (0.6, 20, 1)
    flags = ("--temperature", "0.9", "--top-k", "0", "--top-p", "0.5", "--min-p", "0.1")
    changed = json.loads(invoke(*arguments, *flags, "--repetition-penalty", "1.2").stdout)
    assert changed["sampling"] == {
        "temperature": 0.9, "top_k": 0, "top_p": 0.5, "min_p": 0.1, "repetition_penalty": 1.2,
        "seed": None,
    }  # fmt: skip


WRONG: list[tuple[list[str], str]] = [
    (["--top-k", "5"], "--top-k 5: without effect at temperature 0"),
    (["--backend", "coreml"], "has no such artifact, only executorch, onnx; choose one of these\n"),
    (["--raw", "--system", "x"], "--system goes into the chat template; add --chat"),
    (["--raw", "--think"], "--think/--no-think goes into the chat template"),
    (["--no-think"], "--no-think: the chat template has no enable_thinking switch"),
    (["--prompt", "x" * 99], "context full: "),
    (["--raw", "--prompt", "a\udcffb"], "--prompt is not valid UTF-8: byte 0xff after 1 char"),
]


@pytest.mark.parametrize(("flags", "message"), WRONG)
def test_a_mistake_is_one_line_and_exit_code_2(
    invoke: Invoke, flags: list[str], message: str
) -> None:
    result = invoke("run", "--prompt", "hello", *flags)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--temperature", "-1"),
        ("--top-k", "-1"),
        ("--top-p", "0"),
        ("--min-p", "2"),
        ("--repetition-penalty", "0"),
        ("--seed", "-1"),
        ("--max-new-tokens", "0"),
        ("--threads", "0"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_flag(
    flag: str, value: str, invoke: Invoke, fake_bundle: Any
) -> None:
    result = invoke("run", "--prompt", "hello", flag, value)
    assert result.exit_code == 2
    assert f"'{flag}': {value}" in result.stderr
    assert fake_bundle.loads == []


@pytest.mark.parametrize("command", ["run", "chat", "verify"])
def test_more_threads_than_processors_are_as_many_as_there_are(
    command: str, invoke: Invoke, fake_bundle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime_py.commands.flags.processors", lambda: 4)
    arguments = ("--prompt", "hello") if command == "run" else ()
    result = invoke(command, *arguments, "--threads", "1000", stdin="hello\n")
    said = "note: --threads 1000: this machine has 4 processors; using 4"
    assert said in result.stderr.splitlines()
    assert fake_bundle.model.threads == 4


def test_stdin_that_is_not_utf8_is_refused(invoke: Invoke, fake_bundle: Any) -> None:
    result = invoke("run", "--prompt", "-", stdin=b"ab\xff")
    assert result.exit_code == 2
    assert "the prompt on stdin is not valid UTF-8: byte 0xff at offset 2" in result.stderr
    assert fake_bundle.loads == []


def test_a_damaged_bundle_is_refused_before_it_is_loaded(invoke: Invoke, fake_bundle: Any) -> None:
    (fake_bundle.folder / "onnx/model.bin").write_text("ONNX weights")
    for command in ("run", "verify", "chat"):
        arguments = ("--prompt", "hello") if command == "run" else ()
        result = invoke(command, *arguments)
        assert result.exit_code == 2
        assert "model.bin was changed after the build" in result.stderr
    assert fake_bundle.loads == []
    assert invoke("run", "--prompt", "hello", "--skip-hashes").exit_code == 0


def press_ctrl_c_at_run(number: int) -> Callable[[Any], None]:
    def press(model: Any) -> None:
        if len(model.calls) == number:
            os.kill(os.getpid(), signal.SIGINT)

    return press


def test_ctrl_c_ends_run_with_what_there_is(invoke: Invoke, fake_bundle: Any) -> None:
    # The prompt, then the space, then the c.
    fake_bundle.model.on_run = press_ctrl_c_at_run(2)
    result = invoke("run", "--raw", "--prompt", "ab")
    assert result.exit_code == 130
    assert result.stdout == " cd\n"
    assert "interrupted" in result.stderr
    assert fake_bundle.model.closed


def test_characters_that_the_terminal_lacks_are_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from runtime_py.commands.runner import write

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    write("a€b")
    assert raw.getvalue() == b"a?b"


def test_chat_answers_line_by_line(invoke: Invoke, fake_bundle: Any) -> None:
    result = invoke("chat", stdin="hello\n\n/reset\nhello\n/exit\nnever read\n")
    assert result.exit_code == 0
    assert result.stdout == "fine €.\nfine €.\n"
    assert "begun anew" in result.stderr
    assert result.stderr.count("ended by a stop token") == 2
    assert fake_bundle.model.resets == 1
    assert fake_bundle.model.closed


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
        ("/frobnicate", "error: /frobnicate: no such command; known: /help, /reset, /exit;"),
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
        "from runtime_py.commands.chat_input import next_typed\n"
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


def test_verify_passes_every_backend(invoke: Invoke, fake_bundle: Any) -> None:
    fake_bundle.model.answers = {}
    result = invoke("verify")
    assert result.exit_code == 0
    assert fake_bundle.loads == ["executorch/model.bin", "onnx/model.bin"]
    assert "tiny on executorch: verified; 1 texts, 1 chats" in result.stdout
    assert "tiny on onnx: verified" in result.stdout
    assert "token by token" in result.stdout


def test_verify_names_what_differs_and_exits_with_1(invoke: Invoke) -> None:
    # The scripted answers are not what was recorded.
    result = invoke("verify", "--backend", "onnx")
    assert result.exit_code == 1
    assert "tiny on onnx: DIFFERS from its golden answers" in result.stdout
    assert "greedy id: short (in chunks), step 0, position 1: expected" in result.stdout
    assert "std ahead, found" in result.stdout


def test_verify_checks_what_it_can_and_names_what_it_cannot(
    invoke: Invoke, fake_bundle: Any, installed: dict[str, str]
) -> None:
    fake_bundle.model.answers = {}
    del installed["fake-executorch"]
    result = invoke("verify")
    assert result.exit_code == 0
    assert f"{fake_bundle.folder} on onnx: verified" in result.stdout
    assert "tiny on executorch: NOT CHECKED: backend executorch: the bundle needs" in result.stdout
    assert fake_bundle.loads == ["onnx/model.bin"]
    document = json.loads(invoke("verify", "--json").stdout)
    assert list(document["backends"]) == ["onnx"]
    assert list(document["not_checked"]) == ["executorch"]
    # Who names it wants it checked.
    assert invoke("verify", "--backend", "executorch").exit_code == 2


def test_verify_fails_where_it_can_check_nothing(invoke: Invoke, installed: dict[str, str]) -> None:
    installed.clear()
    result = invoke("verify")
    assert result.exit_code == 2
    assert "pip install 'fake-executorch>=1.2'" in result.stderr
    assert "pip install 'fake-onnxruntime>=1.2'" in result.stderr


def test_verify_json_is_one_document(invoke: Invoke, fake_bundle: Any) -> None:
    result = invoke("verify", "--json", "--backend", "onnx")
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert document["passed"] is False
    assert document["backends"]["onnx"]["mismatches"][0]["check"] == "greedy id"
    fake_bundle.model.answers = {}
    document = json.loads(invoke("verify", "--json").stdout)
    assert document["passed"] is True
    assert set(document["backends"]) == {"onnx", "executorch"}
    assert document["backends"]["onnx"]["near_ties"] == 0
    assert document["backends"]["onnx"]["max_logit_error_std"] < 1e-7


def test_verify_shows_the_first_of_many_differences(invoke: Invoke, fake_bundle: Any) -> None:
    fake_bundle.model.disturb = lambda model, logits: logits[::-1].copy()
    assert "more; --json has all" in invoke("verify", "--backend", "onnx").stdout


def test_inspect_shows_what_is_in_a_bundle(invoke: Invoke, fake_bundle: Any) -> None:
    result = invoke("inspect")
    assert result.exit_code == 0
    for expected in (
        "tiny: tiny, gemma3_text, 3 layers",
        "recipe int4-g32; context 64, chunk 4",
        "text files",
        "norms stay exact",
        "note: vision tower left out",
        "recipe, first match decides",
        "rule 2",
        "anonymous",
        "20.2",
    ):
        assert expected in result.stdout
    assert fake_bundle.loads == []


def test_inspect_json_holds_the_manifest_and_the_sums(invoke: Invoke, fake_bundle: Any) -> None:
    document = json.loads(invoke("inspect", "--json").stdout)
    assert document["manifest"] == json.loads(fake_bundle.manifest().to_json())
    assert {"bundle", "file_parts", "weight_parts", "cache_parts", "unquantized"} < set(document)
    assert document["cache_parts"][0]["size_bytes"] == 2 * 2 * 4 * 4 * 11
    assert document["unquantized"][0]["name"] == "layers.0.attention_norm"


def test_inspect_needs_no_runtime(invoke: Invoke, installed: dict[str, str]) -> None:
    installed.clear()
    assert invoke("inspect").exit_code == 0
    assert invoke("run", "--prompt", "x").exit_code == 2


def test_a_closed_pipe_is_quiet() -> None:
    """As `pocketlm run … | head -c 1` does it."""
    code = (
        "import click\n"
        "from runtime_py.commands.runner import write\n"
        "@click.command()\n"
        "def program():\n"
        "    while True:\n"
        "        write('x' * 65536)\n"
        "program()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1
