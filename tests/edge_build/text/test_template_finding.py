"""Where templates stand, and which one counts."""

import json
from pathlib import Path

import pytest

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.text.checkpoint_files import CheckpointFiles
from pocketlm.edge_build.text.template_finding import FoundTemplate, find_template

JINJA, LEGACY = "chat_template.jinja", "chat_template.json"
PROCESSOR, CONFIG = "processor_config.json", "tokenizer_config.json"
DEFAULT = "additional_chat_templates/default.jinja"
TOOLS = "additional_chat_templates/tool_use.jinja"


def named(**templates: str) -> list[dict[str, str]]:
    return [{"name": name, "template": text} for name, text in templates.items()]


def find(folder: Path, files: dict[str, object]) -> FoundTemplate:
    """Find among files; a text is a file's, anything else a config's chat_template."""
    for name, value in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        text = value if name.endswith(".jinja") else json.dumps({"chat_template": value})
        (folder / name).write_text(str(text))
    read = CheckpointFiles.read(folder, b"{}")
    return find_template(read, read.object(CONFIG))


CHOSEN: dict[str, tuple[dict[str, object], str]] = {
    "the file": ({JINJA: "a"}, "a"),
    "the file before the configs": ({JINJA: "a", CONFIG: "b", LEGACY: "c"}, "a"),
    "tokenizer_config.json": ({CONFIG: "b", LEGACY: "c", PROCESSOR: "d"}, "b"),
    "a list in it": ({CONFIG: named(tool_use="t", default="b")}, "b"),
    "an object in it": ({CONFIG: {"default": "b", "rag": "r"}}, "b"),
    "processor_config.json": ({PROCESSOR: "d", LEGACY: "c"}, "d"),
    "chat_template.json": ({LEGACY: "c"}, "c"),
    "the folder's default": ({DEFAULT: "e", CONFIG: "b"}, "e"),
    "the file beside the folder": ({JINJA: "a", TOOLS: "t"}, "a"),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_templates_are_found_in(name: str, tmp_path: Path) -> None:
    files, expected = CHOSEN[name]
    assert find(tmp_path, files).source == expected


def test_a_template_of_an_unusual_place_is_noted(tmp_path: Path) -> None:
    assert find(tmp_path, {LEGACY: "c"}).notes == (f"the chat template comes from {LEGACY}",)


def test_templates_for_other_uses_are_noted(tmp_path: Path) -> None:
    found = find(tmp_path, {CONFIG: named(default="b", tool_use="t", rag="r")})
    assert found.notes == ("chat templates for other uses, left out: rag, tool_use",)


@pytest.mark.parametrize("files", [{}, {JINJA: " \n"}, {CONFIG: ""}, {CONFIG: []}])
def test_no_template_is_noted(files: dict[str, object], tmp_path: Path) -> None:
    found = find(tmp_path, files)
    assert found.source is None
    assert "no chat template found: pocketlm run continues text" in found.notes[-1]


@pytest.mark.parametrize("files", [{CONFIG: named(tool_use="t")}, {TOOLS: "t", CONFIG: "b"}])
def test_templates_without_a_default_are_refused(files: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="has the chat templates tool_use, none of them 'default'"):
        find(tmp_path, files)


@pytest.mark.parametrize(
    "value", [1, [1], [{"name": "default"}], {"default": None}, [{"name": 1, "template": "x"}]]
)
@pytest.mark.parametrize("file", [CONFIG, LEGACY])
def test_what_is_no_template_is_refused(file: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=f"{file}: chat_template is .*; must be the template's"):
        find(tmp_path, {file: value})


def test_a_template_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / JINJA).write_bytes(b"hello \xff")
    with pytest.raises(BuildError, match=r"chat_template\.jinja: is not UTF-8 text"):
        find(tmp_path, {})
