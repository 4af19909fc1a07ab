"""The checkpoint's text and JSON files, each read once; refuses what is broken."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pocketlm.edge_build.errors import BuildError
from pocketlm.models.checkpoint import Checkpoint

TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
TEMPLATE, TEMPLATES = "chat_template.jinja", "additional_chat_templates"
GENERATION, CONFIG = "generation_config.json", "config.json"
_FILES = (
    TOKENIZER,
    "tokenizer.model",
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    GENERATION,
    TEMPLATE,
    "processor_config.json",
    "chat_template.json",
)


@dataclass(frozen=True)
class CheckpointFiles:
    """What stood in the files beside the weights when they were read.

    Attributes:
        contents: by path in the folder; a file that is not there is not in it.
    """

    folder: Path
    contents: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def read(cls, folder: Path, config_json: bytes) -> "CheckpointFiles":
        """Read them all, but for config.json, which was read before.

        Raises:
            BuildError: one cannot be read.
        """
        templates = (path.relative_to(folder) for path in (folder / TEMPLATES).glob("*.jinja"))
        paths = (*_FILES, *sorted(path.as_posix() for path in templates))
        contents = {name: _read(folder / name) for name in paths if (folder / name).exists()}
        return cls(folder, {CONFIG: config_json, **contents})

    @classmethod
    def of(cls, checkpoint: Checkpoint, tokenizer: Path | None = None) -> "CheckpointFiles":
        """Return the files of a checkpoint, wherever it has them.

        Args:
            tokenizer: a folder whose files are taken in place of the checkpoint's own.

        Raises:
            BuildError: one cannot be read, or there is no such folder.
            ModelError: a GGUF file whose tokenizer cannot be made from it.
        """
        if tokenizer is not None:
            if not tokenizer.is_dir():
                raise BuildError(
                    f"--tokenizer {tokenizer}: no such folder; give a folder with tokenizer.json"
                )
            return cls.read(tokenizer, checkpoint.config_json)
        if checkpoint.text_files is not None:
            made = checkpoint.text_files()
            return cls(checkpoint.folder, {CONFIG: checkpoint.config_json, **made})
        return cls.read(checkpoint.folder, checkpoint.config_json)

    def text(self, name: str) -> str:
        """Return the text of a file, with "\\n" at the ends of lines.

        Raises:
            BuildError: it is not UTF-8.
        """
        try:
            text = self.contents[name].decode("utf-8")
        except UnicodeDecodeError as error:
            raise BuildError(
                f"{self.folder / name}: is not UTF-8 text: {error.reason} at byte {error.start}; "
                "save it as UTF-8"
            ) from error
        return io.StringIO(text, newline=None).read()

    def object(self, name: str) -> dict[str, Any]:
        """Return a JSON file's object; empty if there is no such file.

        Raises:
            BuildError: it is no JSON object.
        """
        return _parse(self.folder / name, self.text(name)) if name in self.contents else {}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BuildError(
            f"{path}: cannot be read: {error.strerror or error}; check its permissions"
        ) from error


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
        _refuse_halves(document, text)
    except (ValueError, RecursionError) as error:
        raise BuildError(
            f"{path}: cannot be read as JSON: {error}; copy it again from where the checkpoint "
            "was published"
        ) from error
    if not isinstance(document, dict):
        raise BuildError(
            f"{path}: holds {_kind(document)}, not an object; copy it again from where the "
            "checkpoint was published"
        )
    return document


def token_id(document: Mapping[str, Any], key: str, file: str) -> int | None:
    """Return one token id of a config; None if it names none. Some write -1 for none.

    Raises:
        BuildError: the value is no id.
    """
    value = document.get(key)
    if value is None or (type(value) is int and value < 0):
        return None
    if type(value) is not int:
        raise BuildError(f"{file}: {key} is {short(value)}; must be a token id, 0 or more, or null")
    return value


def short(value: object) -> str:
    """Return a JSON value as a message shows it."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refuse_halves(document: object, text: str) -> None:
    """Raise ValueError if a string holds half of a surrogate pair, which no file can hold."""
    if "\\ud" not in text.lower():
        return
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])[1:-1]
        raise ValueError(f"{half} is half of a character") from error


def _kind(value: object) -> str:
    return "a list" if isinstance(value, list) else short(value)
