"""Runtimes that read a bundle's files otherwise are found, named and counted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pocketlm.runtime_py.lint import readers
from pocketlm.runtime_py.lint.answering import answers_of
from pocketlm.runtime_py.lint.comparison import installed_readers, read_alike
from pocketlm.runtime_py.lint.edge_cases import EdgeCaseChat, EdgeCaseText, edge_case_chats
from pocketlm.runtime_py.lint.reader import Questions
from pocketlm.runtime_py.readings import reading_lines, reading_notes
from tests.conftest import PICO
from tests.text_bundles import text_bundle

pytest.importorskip("pytorch_tokenizers")
pytest.importorskip("onnxruntime_genai")

PLAIN = (
    EdgeCaseText("words", "The class Counter counts."),
    EdgeCaseText("code", "def f():\n    pass\n"),
)
CHAT = (edge_case_chats()[0],)

Change = Callable[[str, Callable[[dict[str, Any]], None]], Path]


@pytest.fixture
def changed(tmp_path: Path) -> Change:
    """Return a function: file, change of its JSON → copy of pico's text files with that change."""

    def make(name: str, change: Callable[[dict[str, Any]], None]) -> Path:
        folder = Path(shutil.copytree(text_bundle(PICO), tmp_path / "changed"))
        document = json.loads((folder / name).read_bytes())
        change(document)
        (folder / name).write_text(json.dumps(document), encoding="utf-8")
        return folder

    return make


def test_every_installed_runtime_reads_the_embedded_model_as_the_host_does() -> None:
    readings = read_alike(text_bundle(PICO))
    assert set(readings) == {"executorch", "genai", "sentencepiece"}
    assert readings["genai"].chats == len(edge_case_chats())
    for reading in readings.values():
        assert reading.unknown == ()
    # What is left has its row in the table.
    kinds = {one.kind for reading in readings.values() for one in reading.differences}
    assert kinds <= {row.kind for name in readers.names() for row in readers.load(name).known}


def test_a_tokenizer_that_reads_otherwise_is_an_unknown_difference(changed: Change) -> None:
    def lose_a_merge(document: dict[str, Any]) -> None:
        document["model"]["merges"] = document["model"]["merges"][:100]

    folder = changed("executorch/tokenizer.json", lose_a_merge)
    reading = read_alike(folder, PLAIN, CHAT)["executorch"]
    assert [one.known for one in reading.differences] == [False, False]
    first = reading.unknown[0]
    assert (first.kind, first.count) == ("text: code", 1)
    assert first.example == "def f():\\n    pass\\n"
    assert first.reason.startswith("found ids [")


def test_a_template_that_renders_otherwise_is_found(changed: Change) -> None:
    def greet(document: dict[str, Any]) -> None:
        document["chat_template"] = "Hello {{ messages[0].content }}"

    reading = read_alike(changed("onnx/tokenizer_config.json", greet), PLAIN, CHAT)["genai"]
    assert [one.kind for one in reading.unknown] == ["chat: one message"]
    assert reading.unknown[0].reason == "found Hello Hi!"


def test_a_chat_that_the_host_refuses_too_is_no_difference() -> None:
    answers = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    readings = read_alike(text_bundle(PICO), PLAIN, (*CHAT, EdgeCaseChat("refused", answers, {})))
    assert readings["genai"].differences == ()


def test_other_runtimes_are_asked_no_chat_that_our_host_stopped(changed: Change) -> None:
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"

    def never_end(document: Any) -> None:
        document["chat_template"] = endless

    folder = changed("onnx/tokenizer_config.json", never_end)
    (folder / "chat_template.jinja").write_text(endless)
    assert read_alike(folder, PLAIN, CHAT)["genai"].differences == ()


def test_files_that_a_runtime_cannot_open_are_an_unknown_difference(changed: Change) -> None:
    folder = changed("onnx/tokenizer.json", lambda document: document.pop("model"))
    reading = read_alike(folder, PLAIN, CHAT)["genai"]
    assert [one.kind for one in reading.unknown] == ["cannot be read"]
    assert "genai on the tokenizer files of" in reading.unknown[0].reason


def test_a_runtime_without_files_is_not_asked(tmp_path: Path) -> None:
    shutil.copyfile(PICO / "tokenizer.json", tmp_path / "tokenizer.json")
    assert installed_readers(tmp_path) == {}
    assert read_alike(tmp_path, PLAIN, ()) == {}
    assert "none is installed" in reading_lines({})[0]


def test_notes_name_the_runtime_its_version_and_the_kinds() -> None:
    readings = read_alike(text_bundle(PICO), (EdgeCaseText("NUL", "a\0b"),), ())
    (note,) = reading_notes({"genai": readings["genai"]})
    assert note == (
        f"genai {readings['genai'].version} reads some texts otherwise than the host "
        "(text with NUL); `pocketlm lint` says what an app can do"
    )


CLOCK = "{{ strftime_now('%d %b %Y %H:%M:%S.%f') }}"


def test_a_template_that_reads_the_clock_shows_every_runtime_the_same_moment(
    changed: Change,
) -> None:
    def date(config: dict[str, Any]) -> None:
        config["chat_template"] += CLOCK

    folder = changed("onnx/tokenizer_config.json", date)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8") + CLOCK, encoding="utf-8")
    asked = Questions((), [(CHAT[0].messages, {})])
    for name in ("pocketlm", "genai"):
        (rendered,) = answers_of(name, folder, asked).chats
        assert rendered is not None and rendered.endswith("15 Jan 2026 12:00:00.000000")
    assert read_alike(folder, PLAIN, CHAT)["genai"].differences == ()


def test_a_date_in_a_pattern_that_is_put_together_gets_into_no_report(changed: Change) -> None:
    def date(config: dict[str, Any]) -> None:
        config["chat_template"] += "{{ strftime_now('%H:' + '%M:%S') }}"

    folder = changed("onnx/tokenizer_config.json", date)
    (unknown,) = read_alike(folder, PLAIN, CHAT)["genai"].unknown
    assert "%H:%M:%S" in unknown.reason
