"""export: what an app ships, checked, whole or not at all."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pocketlm.runtime_py import engines
from pocketlm.runtime_py.app_facts import app_facts
from pocketlm.runtime_py.commands.export import export as export_command
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.export import export, files_for

Export = Callable[..., Result]


@pytest.fixture
def command(fake_bundle: Any, tmp_path: Path) -> Export:
    fake_bundle.write("genai_config.json", "{}")

    def call(runtime: str, *arguments: str) -> Result:
        line = [str(fake_bundle.folder), "--for", runtime, "--out", str(tmp_path / "app")]
        return CliRunner().invoke(export_command, [*line, *arguments], catch_exceptions=False)

    return call


def paths_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("runtime", "paths"),
    [
        ("executorch", ["model.bin", "tokenizer.json"]),
        ("executorch-android", ["model.bin", "tokenizer.json"]),
        ("executorch-ios", ["model.bin", "tokenizer.json"]),
        (
            "genai",
            [
                "chat_template.jinja",
                "genai_config.json",
                "onnx/model.bin",
                "tokenizer.json",
                "tokenizer_config.json",
            ],
        ),
        ("onnxruntime", ["model.bin", "tokenizer.json"]),
    ],
)
def test_an_app_gets_its_runtime_s_files_and_no_others(
    runtime: str, paths: list[str], fake_bundle: Any, tmp_path: Path
) -> None:
    fake_bundle.write("genai_config.json", "{}")
    bundle = fake_bundle.open()
    files = export(bundle, runtime, tmp_path / "new" / "app")
    assert paths_in(tmp_path / "new" / "app") == paths == [file.path for file in files]
    for file in files:
        copied = (tmp_path / "new" / "app" / file.path).read_bytes()
        assert hashlib.sha256(copied).hexdigest() == file.entry.sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "tiny"]


def test_every_runtime_can_be_asked_for(command: Export) -> None:
    (option,) = [p for p in export_command.params if p.name == "runtime"]
    assert list(engines.app_names()) == list(option.type.choices)  # type: ignore[attr-defined]


def test_a_tokenizer_of_the_backend_s_own_is_taken_before_the_published_one(
    fake_bundle: Any,
) -> None:
    for name in ("genai_config.json", "onnx/tokenizer.json", "onnx/tokenizer_config.json"):
        fake_bundle.write(name, "{}")
    assert [file.path for file in files_for(fake_bundle.open(), "genai")] == [
        "genai_config.json",
        "onnx/model.bin",
        "onnx/tokenizer.json",
        "onnx/tokenizer_config.json",
    ]
    fake_bundle.write("executorch/tokenizer.json", "{}")
    files = {file.path: file.entry.path for file in files_for(fake_bundle.open(), "executorch")}
    assert files == {
        "model.bin": "executorch/model.bin",
        "tokenizer.json": "executorch/tokenizer.json",
    }


def test_a_changed_file_leaves_nothing(fake_bundle: Any, tmp_path: Path) -> None:
    bundle = fake_bundle.open()
    path = fake_bundle.folder / "executorch" / "model.bin"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(RunError, match="was changed after the build"):
        export(bundle, "executorch", tmp_path / "new" / "app")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        ("coreml", "--for coreml: unknown; choose one of executorch, executorch-android"),
        ("genai", "has no genai_config.json: onnxruntime-genai takes no ring caches"),
    ],
)
def test_what_cannot_be_exported_is_said(runtime: str, message: str, fake_bundle: Any) -> None:
    with pytest.raises(RunError, match=message):
        files_for(fake_bundle.open(), runtime)


def test_a_folder_that_is_there_is_left_alone(fake_bundle: Any, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    with pytest.raises(RunError, match="exists already"):
        export(fake_bundle.open(), "executorch", tmp_path / "app")
    assert list((tmp_path / "app").iterdir()) == []


def test_the_facts_are_what_an_app_must_know(fake_bundle: Any) -> None:
    facts = app_facts(fake_bundle.open(), "onnx")
    assert (facts.bos_id, facts.stop_ids, facts.stop_tokens) == (
        2,
        (1, 5),
        ("<eos>", "<end_of_turn>"),
    )
    assert facts.chat_prompt == "<start_of_turn>user\n{prompt}<end_of_turn>\n<start_of_turn>model\n"
    assert (facts.least_max_length, facts.context_length, facts.prefill_chunk) == (8, 64, 4)
    assert facts.least_versions == {"fake-onnxruntime": "1.2"}


def test_a_template_that_wants_more_than_a_message_gives_no_prompt(fake_bundle: Any) -> None:
    fake_bundle.write("chat_template.jinja", "{{ raise_exception('two messages') }}")
    assert app_facts(fake_bundle.open(), "onnx").chat_prompt is None
    fake_bundle.remove("chat_template.jinja")
    assert app_facts(fake_bundle.open(), "onnx").chat_prompt is None


def test_people_are_told_the_files_and_the_next_step(command: Export, tmp_path: Path) -> None:
    result = command("genai")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{tmp_path / 'app'}: ")
    assert "onnx/model.bin" in result.stdout and "golden" not in result.stdout
    assert "BOS          token 2, once, first" in result.stdout
    assert "stop tokens  '<eos>' (1), '<end_of_turn>' (5)" in result.stdout
    assert "max_length   8 to 64" in result.stdout
    assert "rewind       at most 4 tokens; start again for more" in result.stdout
    assert "docs/in-an-app.md" in result.stdout


def test_json_is_one_document(command: Export, tmp_path: Path) -> None:
    document = json.loads(command("executorch-android", "--json").stdout)
    assert document["for"] == "executorch-android"
    assert document["model"] == "model.bin"
    assert document["folder"] == str(tmp_path / "app")
    assert document["size_bytes"] == sum(file["size_bytes"] for file in document["files"])
    assert document["stop_tokens"] == ["<eos>", "<end_of_turn>"]
    assert document["least_versions"] == {"fake-executorch": "1.2"}
