"""The text API of an app in Python."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pocketlm
from pocketlm.runtime_py import RunError, SamplingOptions, open_model

CHAT = "<bos><start_of_turn>user\nhello<end_of_turn>\n<start_of_turn>model\n"


@pytest.fixture
def folder(fake_bundle: Any) -> Path:
    ids = fake_bundle.tokenizer.encode
    second = CHAT.replace("model", "assistant") + "fine €.<end_of_turn>\n"
    second += "<start_of_turn>user\nab<end_of_turn>\n"
    fake_bundle.model.answers = {
        tuple(ids(CHAT)): [*ids("fine €."), 5],
        tuple(ids(second + "<start_of_turn>model\n")): [*ids("cd"), 5],
        tuple(ids("<bos>hello")): [*ids(" well"), 1],
    }
    path: Path = fake_bundle.folder
    return path


def test_a_text_is_continued(folder: Path) -> None:
    with open_model(folder) as model:
        assert model.generate("hello").text == " well"
        # Each begins anew.
        assert model.generate("hello").text == " well"


def test_pieces_come_as_they_are_made(folder: Path, fake_bundle: Any) -> None:
    with open_model(folder, backend="executorch") as model:
        answer = model.generate("hello")
        first = next(iter(answer))
        assert answer.result.text == first != " well"
        assert first + "".join(answer) == answer.text == " well"
        assert answer.result.reason == "stop"
    assert fake_bundle.loads == ["executorch/model.bin"]
    assert fake_bundle.model.closed


def test_a_chat_remembers_and_processes_only_what_is_new(folder: Path, fake_bundle: Any) -> None:
    # The template calls an earlier answer otherwise: a ring could not go back so far.
    entries = fake_bundle.manifest().backends
    linear = {
        name: replace(entry, caches=(entry.caches[-1],) * 3, rewind_tokens=None)
        for name, entry in entries.items()
    }
    fake_bundle.write_manifest(backends=linear)
    with open_model(folder) as model:
        chat = model.chat()
        assert "".join(chat.stream("hello")) == "fine €."
        asked = len(fake_bundle.model.calls)
        assert chat.stream("ab").text == "cd"
        assert fake_bundle.model.calls[asked][0] > 0
        assert [message["content"] for message in chat.messages] == ["hello", "fine €.", "ab", "cd"]
        chat.reset()
        assert chat.messages == []
        assert chat.stream("hello").text == "fine €."


def test_an_answer_that_was_not_read_is_left_out(folder: Path) -> None:
    with open_model(folder) as model:
        chat = model.chat()
        chat.stream("hello")
        assert chat.stream("hello").text == "fine €."
        assert len(chat.messages) == 2
        next(iter(chat.stream("ab")))
        assert chat.messages[-1] == {"role": "assistant", "content": "c"}


def test_sampling_is_the_checkpoint_s_unless_told(folder: Path, fake_bundle: Any) -> None:
    fake_bundle.write("generation_config.json", '{"do_sample": true, "temperature": 9.0}')
    with open_model(folder) as model:
        assert model.published.temperature == 9
        assert model.generate("hello", sampling=SamplingOptions()).text == " well"
        assert model.generate("hello", 1, SamplingOptions()).text == " w"


def test_variables_and_the_system_message_reach_the_template(
    folder: Path, fake_bundle: Any
) -> None:
    source = "{{ messages[0].content }}{{ enable_thinking }}"
    fake_bundle.write("chat_template.jinja", source)
    with open_model(folder) as model:
        chat = model.chat("brief", max_new_tokens=1, variables={"enable_thinking": False})
        assert chat.stream("hello").result.prompt_tokens == 0
        assert chat.messages == [{"role": "system", "content": "brief"}]
        _ = chat.stream("hello").text
    ids = [token for _, tokens in fake_bundle.model.calls for token in tokens]
    assert fake_bundle.tokenizer.decode(ids) == "briefFalse"


def test_a_bundle_without_a_template_does_not_chat(folder: Path, fake_bundle: Any) -> None:
    fake_bundle.remove("chat_template.jinja")
    with open_model(folder) as model, pytest.raises(RunError, match="continue a text with gener"):
        model.chat()


def test_a_damaged_bundle_is_refused_before_it_is_loaded(folder: Path, fake_bundle: Any) -> None:
    (folder / "onnx/model.bin").write_text("ONNX weights")
    with pytest.raises(RunError, match="was changed after the build"):
        open_model(folder)
    assert fake_bundle.loads == []


@pytest.fixture
def default_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C raise: a shell starts what runs in the background with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("default_ctrl_c")
def test_ctrl_c_reaches_the_program(folder: Path, fake_bundle: Any) -> None:
    fake_bundle.model.on_run = lambda model: (
        os.kill(os.getpid(), signal.SIGINT) if len(model.calls) == 3 else None
    )
    with open_model(folder) as model:
        answer = model.generate("hello")
        with pytest.raises(KeyboardInterrupt):
            _ = answer.text
        assert " well".startswith(answer.result.text)


def test_a_bundle_is_taken_as_it_is_or_by_its_folder(fake_bundle: Any) -> None:
    texts = {
        pocketlm.generate(bundle, "ab", max_new_tokens=3).text
        for bundle in (fake_bundle.folder, str(fake_bundle.folder), fake_bundle.open())
    }
    assert len(texts) == 1
    assert fake_bundle.model.closed


def test_a_chat_that_cannot_begin_closes_its_model(fake_bundle: Any) -> None:
    fake_bundle.remove("chat_template.jinja")
    with pytest.raises(RunError, match="no chat template"):
        pocketlm.open_chat(fake_bundle.folder)
    assert fake_bundle.model.closed
