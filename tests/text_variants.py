"""Folders with a checkpoint's text files, changed as people's checkpoints are; no weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pocketlm.edge_build.text.checkpoint_files import CheckpointFiles
from pocketlm.edge_build.text_files import TextFiles, read_text_files
from pocketlm.models import families
from tests.conftest import PICO

TEXT_FILES = (
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
TOKENIZER, CONFIG = "tokenizer.json", "tokenizer_config.json"
TEMPLATE, GENERATION = "chat_template.jinja", "generation_config.json"
Change = Callable[[Path], object]


def variant(folder: Path, *changes: Change, source: Path = PICO) -> Path:
    """Copy a checkpoint's text files into a new folder and change them in turn."""
    folder.mkdir()
    for name in TEXT_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, folder / name)
    for change in changes:
        change(folder)
    return folder


def read(folder: Path, **sizes: Any) -> TextFiles:
    """Read them as a build does; `sizes` replace numbers of config.json."""
    config_json = (folder / "config.json").read_bytes()
    published = {**json.loads(config_json), **sizes}
    family = families.load(published["model_type"])
    files = CheckpointFiles.read(folder, config_json)
    return read_text_files(files, family.read_config(published))


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def edit(name: str, drop: tuple[str, ...] = (), **values: object) -> Change:
    """Set and drop keys of a JSON file, which is made where it is missing."""

    def change(folder: Path) -> None:
        path = folder / name
        document = {**(load(path) if path.exists() else {}), **values}
        path.write_text(json.dumps({k: v for k, v in document.items() if k not in drop}))

    return change


def without(*names: str) -> Change:
    return lambda folder: [(folder / name).unlink() for name in names]


def write(name: str, text: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    return change


def template(edited: Callable[[str], str]) -> Change:
    """Edit the template's source."""
    return lambda folder: (folder / TEMPLATE).write_text(edited((folder / TEMPLATE).read_text()))


def added(*tokens: tuple[int, str], **flags: bool) -> Change:
    """Append to tokenizer.json's added tokens."""

    def change(folder: Path) -> None:
        document = load(folder / TOKENIZER)
        document["added_tokens"] += [token_object(i, text, **flags) for i, text in tokens]
        (folder / TOKENIZER).write_text(json.dumps(document))

    return change


def added_only_up_to(last: int) -> Change:
    """Take the later ones off tokenizer.json's added tokens."""

    def change(folder: Path) -> None:
        document = load(folder / TOKENIZER)
        document["added_tokens"] = [t for t in document["added_tokens"] if t["id"] <= last]
        (folder / TOKENIZER).write_text(json.dumps(document))

    return change


def token_object(index: int, text: str, **flags: bool) -> dict[str, Any]:
    usual = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": text, **usual, "special": True, **flags}


def decoder_of(*tokens: tuple[int, str], **flags: bool) -> dict[str, dict[str, Any]]:
    """Return what tokenizer_config.json has under added_tokens_decoder."""
    entries = {}
    for index, text in tokens:
        entry = token_object(index, text, **flags)
        del entry["id"]
        entries[str(index)] = entry
    return entries
