"""Tokenizer, chat template and stop ids of a checkpoint: what a bundle needs besides weights."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from edge_build.errors import BuildError
from models.config import ModelConfig
from models.tokenizer_files import find_tokenizer
from runtime_py.chat_template import special_tokens

TEXT_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
)
CHAT_TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True)
class TextFiles:
    """What turns text into tokens and ends an answer.

    Attributes:
        chat_template: jinja source; None if the checkpoint has none.
        special_tokens: what the template reads by name, such as bos_token.
        bos_id: prepended to raw prompts; None if the tokenizer adds none.
        tokenizer_size: highest id the tokenizer can give, plus one.
        notes: what the user should know.
    """

    folder: Path
    chat_template: str | None
    special_tokens: Mapping[str, str]
    bos_id: int | None
    pad_id: int | None
    stop_ids: tuple[int, ...]
    tokenizer_size: int
    notes: tuple[str, ...]

    def copy_to(self, bundle: Path) -> None:
        """Copy the files into the bundle; generation_config.json is made if there is none."""
        for name in TEXT_FILES:
            if (self.folder / name).exists():
                shutil.copyfile(self.folder / name, bundle / name)
        if self.chat_template is not None:
            (bundle / CHAT_TEMPLATE).write_text(self.chat_template, encoding="utf-8")
        generation = bundle / "generation_config.json"
        if not generation.exists():
            document = {"eos_token_id": list(self.stop_ids), "do_sample": False}
            generation.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_text_files(folder: Path, config: ModelConfig) -> TextFiles:
    """Read and check the checkpoint's tokenizer files.

    Raises:
        BuildError: tokenizer.json is missing, damaged, or gives ids that the model does not have.
    """
    tokenizer = _read_tokenizer(folder)
    tokenizer_config = _read_json(folder / "tokenizer_config.json")
    generation = _read_json(folder / "generation_config.json")
    published = _read_json(folder / "config.json")
    published = {**published.get("text_config", {}), **published}
    size = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    notes = _check_size(tokenizer, size, config)
    template = _chat_template(folder, tokenizer_config)
    stop_ids, stop_notes = _stop_ids(tokenizer, generation, published, template)
    return TextFiles(
        folder=folder,
        chat_template=template,
        special_tokens=special_tokens(tokenizer_config),
        bos_id=_bos_id(tokenizer, tokenizer_config, generation, published),
        pad_id=_first_id(generation.get("pad_token_id"), published.get("pad_token_id")),
        stop_ids=stop_ids,
        tokenizer_size=size,
        notes=(*notes, *stop_notes),
    )


def _read_tokenizer(folder: Path) -> Tokenizer:
    path = find_tokenizer(folder).tokenizer_json
    if path is None:
        raise BuildError(
            f"{folder}: tokenizer.model but no tokenizer.json, which runtimes read; convert it "
            "with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain Exception
        raise BuildError(f"{path}: cannot be read as a tokenizer: {error}") from error


def _check_size(tokenizer: Tokenizer, size: int, config: ModelConfig) -> tuple[str, ...]:
    """Refuse ids that ordinary text can reach beyond the model's table."""
    if size <= config.vocab_size:
        return ()
    added = tokenizer.get_added_tokens_decoder()
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    reachable = [i for i in vocabulary.values() if i >= config.vocab_size and i not in added]
    if reachable or size > config.vocab_size + 64:
        raise BuildError(
            f"tokenizer.json gives ids up to {size - 1}, but the model has {config.vocab_size} "
            "rows in its vocabulary; tokenizer and weights do not belong together"
        )
    # Gemma 3 1B: the image token's id is one past the text model's table.
    names = ", ".join(added[i].content for i in sorted(added) if i >= config.vocab_size)
    return (f"special tokens without a row in the model, never produced: {names}",)


def _chat_template(folder: Path, tokenizer_config: Mapping[str, Any]) -> str | None:
    path = folder / CHAT_TEMPLATE
    if path.exists():
        return path.read_text(encoding="utf-8")
    template = tokenizer_config.get("chat_template")
    if isinstance(template, list):  # several named templates: the default one
        named = {entry.get("name"): entry.get("template") for entry in template}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _stop_ids(
    tokenizer: Tokenizer,
    generation: Mapping[str, Any],
    published: Mapping[str, Any],
    template: str | None,
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    ids = _id_list(generation.get("eos_token_id")) or _id_list(published.get("eos_token_id"))
    notes = []
    for token in ("<end_of_turn>", "<|im_end|>"):
        found = tokenizer.token_to_id(token)
        if found is not None and found not in ids and template is not None and token in template:
            ids.append(found)
            notes.append(f"{token} added to the stop ids: the chat template ends turns with it")
    if not ids:
        raise BuildError(
            "neither generation_config.json nor config.json names an eos_token_id; generation "
            "would never stop; add one"
        )
    return tuple(dict.fromkeys(ids)), tuple(notes)


def _bos_id(
    tokenizer: Tokenizer,
    tokenizer_config: Mapping[str, Any],
    generation: Mapping[str, Any],
    published: Mapping[str, Any],
) -> int | None:
    bos_id = _first_id(generation.get("bos_token_id"), published.get("bos_token_id"))
    if tokenizer_config.get("add_bos_token") is False:
        return None
    starts = tokenizer.encode("").ids[:1]
    if tokenizer_config.get("add_bos_token") is True and bos_id is not None:
        return bos_id
    return int(starts[0]) if starts and starts[0] == bos_id else None


def _id_list(value: Any) -> list[int]:
    if isinstance(value, int):
        return [value]
    return [int(v) for v in value] if isinstance(value, list) else []


def _first_id(*values: Any) -> int | None:
    for value in values:
        if isinstance(value, int):
            return value
    return None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BuildError(f"{path}: cannot be read as JSON: {error}") from error
    return document if isinstance(document, dict) else {}
