"""Where a checkpoint keeps its chat template, in the order in which transformers 5.23 looks.

The tokenizer's files come first (chat_template.jinja, additional_chat_templates/,
tokenizer_config.json), then those that only a processor reads (processor_config.json,
chat_template.json), because text models are published with either.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.text.checkpoint_files import (
    TEMPLATE,
    TEMPLATES,
    CheckpointFiles,
    short,
)

_KEY, _DEFAULT = "chat_template", "default"
_NO_TEMPLATE = (
    "no chat template found: pocketlm run continues text as it is, and pocketlm chat cannot chat"
)


@dataclass(frozen=True)
class FoundTemplate:
    """The template that chats use; None if there is none."""

    source: str | None
    notes: tuple[str, ...] = ()


def find_template(files: CheckpointFiles, tokenizer_config: Mapping[str, Any]) -> FoundTemplate:
    """Find the template for chats without tools.

    Raises:
        BuildError: a template is no text, or there are several without a default one.
    """
    named_templates = (
        (f"{TEMPLATE} and {TEMPLATES}", _from_files(files)),
        ("tokenizer_config.json", _from_config(tokenizer_config, "tokenizer_config.json")),
        ("processor_config.json", _from_processor(files, "processor_config.json")),
        ("chat_template.json", _from_processor(files, "chat_template.json")),
    )
    for file, named in named_templates:
        if named:
            return _chosen(file, named)
    return FoundTemplate(None, (_NO_TEMPLATE,))


def _chosen(file: str, named: Mapping[str, str]) -> FoundTemplate:
    if _DEFAULT not in named:
        raise BuildError(
            f"{file}: has the chat templates {', '.join(sorted(named))}, none of them "
            f"{_DEFAULT!r}, so chats without tools have none; name one of them {_DEFAULT!r}, or "
            f"save it as {TEMPLATE}"
        )
    source = named[_DEFAULT]
    if not source.strip():
        return FoundTemplate(None, (f"{file}: the chat template is empty", _NO_TEMPLATE))
    notes = []
    if file.endswith(".json") and not file.startswith("tokenizer"):
        notes.append(f"the chat template comes from {file}")
    if others := sorted(named.keys() - {_DEFAULT}):
        notes.append(f"chat templates for other uses, left out: {', '.join(others)}")
    return FoundTemplate(source, tuple(notes))


def _from_files(files: CheckpointFiles) -> dict[str, str]:
    named = {}
    if TEMPLATE in files.contents:
        named[_DEFAULT] = files.text(TEMPLATE)
    for name in files.contents:
        folder, _, file = name.rpartition("/")
        if folder == TEMPLATES:
            named[file.removesuffix(".jinja")] = files.text(name)
    return named


def _from_processor(files: CheckpointFiles, file: str) -> dict[str, str]:
    return _from_config(files.object(file), file)


def _from_config(document: Mapping[str, Any], file: str) -> dict[str, str]:
    value = document.get(_KEY)
    if value is None:
        return {}
    if isinstance(value, str):
        return {_DEFAULT: value}
    if isinstance(value, list):
        entries = [entry for entry in value if isinstance(entry, dict)]
        named = {entry.get("name"): entry.get("template") for entry in entries}
        complete = len(entries) == len(value)
    else:
        named, complete = (value, True) if isinstance(value, dict) else ({}, False)
    if not complete or not all(isinstance(t, str) for pair in named.items() for t in pair):
        raise BuildError(
            f"{file}: {_KEY} is {short(value)}; must be the template's text, or a list of "
            'objects with "name" and "template"'
        )
    return {str(name): str(template) for name, template in named.items()}
