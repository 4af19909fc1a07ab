"""pocketlm run, and what every command says of a mistake."""

import io
import json
import sys
from typing import Any

import pytest

from tests.runtime_py.commands.program import Invoke, press_ctrl_c_at_run


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
    monkeypatch.setattr("pocketlm.runtime_py.commands.flags.processors", lambda: 3)
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
    monkeypatch.setattr("pocketlm.runtime_py.commands.flags.processors", lambda: 4)
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
    from pocketlm.runtime_py.commands.runner import write

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    write("a€b")
    assert raw.getvalue() == b"a?b"
