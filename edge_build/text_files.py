"""Tokenizer, chat template and stop ids of a checkpoint: what a bundle needs besides weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.text.bos import bos_of
from pocketlm.edge_build.text.checkpoint_files import (
    CONFIG,
    GENERATION,
    TEMPLATE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    CheckpointFiles,
    token_id,
)
from pocketlm.edge_build.text.sampling_defaults import read_sampling
from pocketlm.edge_build.text.special_tokens import SpecialTokens, read_special_tokens
from pocketlm.edge_build.text.stop_ids import stop_ids_of
from pocketlm.edge_build.text.template_finding import find_template
from pocketlm.edge_build.text.tokenizer_reading import (
    AddedTokens,
    CheckpointTokenizer,
    names,
    read_tokenizer,
    tokenizer_json,
)
from pocketlm.edge_build.text.trial_chats import TrialChats, try_chats
from pocketlm.models.config import ModelConfig
from pocketlm.runtime_py.chat_template import ChatTemplate, special_tokens
from pocketlm.runtime_py.golden import ChatCase
from pocketlm.runtime_py.sampling import SamplingOptions
from pocketlm.runtime_py.tokenizer_library import TokenizerError

# Taken into the bundle as they were published, but for what this module completes.
COPIED = (
    TOKENIZER,
    "tokenizer.model",
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    GENERATION,
)


@dataclass(frozen=True)
class TextFiles:
    """What turns text into tokens and ends an answer.

    Attributes:
        chat_template: jinja source; None if the checkpoint has none.
        special_tokens: what the template reads by name, such as bos_token.
        bos_id: prepended to raw prompts; None if the tokenizer adds none.
        stop_ids: each has a row in the model.
        tokenizer_size: highest id the tokenizer can give, plus one.
        notes: what the user should know.
        tokenizer_config: with every special token; None where the published file is complete.
        added_tokens: what tokenizer.json must have in place of its own added tokens; None where
            the published file is right.
        sampling: the published defaults.
        chats: golden chats, rendered at `chat_template.MOMENT`.
    """

    files: CheckpointFiles
    chat_template: str | None
    special_tokens: Mapping[str, str]
    bos_id: int | None
    pad_id: int | None
    stop_ids: tuple[int, ...]
    tokenizer_size: int
    notes: tuple[str, ...]
    tokenizer_config: Mapping[str, Any] | None
    added_tokens: AddedTokens | None
    sampling: SamplingOptions
    chats: tuple[ChatCase, ...]

    def tokenizer_json(self) -> str | None:
        """Return the text of the completed tokenizer.json; None if the published file is right."""
        if self.added_tokens is None:
            return None
        return tokenizer_json(self.files.text(TOKENIZER), self.added_tokens)

    def copy_to(self, bundle: Path) -> None:
        """Write the files into the bundle, completed where the published ones lack something."""
        for name in COPIED:
            if name in self.files.contents:
                (bundle / name).write_bytes(self.files.contents[name])
        completed = self.tokenizer_json()
        if completed is not None:
            (bundle / TOKENIZER).write_text(completed, encoding="utf-8")
        if self.tokenizer_config is not None:
            _write_object(bundle / TOKENIZER_CONFIG, self.tokenizer_config)
        if self.chat_template is not None:
            (bundle / TEMPLATE).write_text(self.chat_template, encoding="utf-8", newline="")
        if not (bundle / GENERATION).exists():
            generation = {"eos_token_id": list(self.stop_ids), "do_sample": False}
            _write_object(bundle / GENERATION, generation)


@dataclass(frozen=True)
class _Documents:
    """The checkpoint's JSON files, parsed."""

    tokenizer_config: Mapping[str, Any]
    special_tokens_map: Mapping[str, Any]
    added_tokens: Mapping[str, Any]
    generation: Mapping[str, Any]
    config: Mapping[str, Any]

    @classmethod
    def of(cls, files: CheckpointFiles) -> "_Documents":
        config = files.object(CONFIG)
        inner = config.get("text_config")
        return cls(
            tokenizer_config=files.object(TOKENIZER_CONFIG),
            special_tokens_map=files.object("special_tokens_map.json"),
            added_tokens=files.object("added_tokens.json"),
            generation=files.object(GENERATION),
            config={**(inner if isinstance(inner, dict) else {}), **config},
        )

    @property
    def with_ids(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        """The files that name token ids, the one that counts most first."""
        return ((GENERATION, self.generation), (CONFIG, self.config))

    def token_id(self, key: str) -> int | None:
        found = (token_id(d, key, file) for file, d in self.with_ids)
        return next((i for i in found if i is not None), None)


def read_text_files(files: CheckpointFiles, config: ModelConfig) -> TextFiles:
    """Interpret and check the checkpoint's text files, and try its chat template.

    Raises:
        ModelError: there is no tokenizer.
        BuildError: a file is damaged, they contradict each other or the model's vocabulary, or the
            template is broken.
    """
    try:
        return _read(files, config)
    except TokenizerError as error:
        raise BuildError(str(error)) from error


def _read(files: CheckpointFiles, config: ModelConfig) -> TextFiles:
    documents = _Documents.of(files)
    rows = config.vocab_size
    sampling, sampling_notes = read_sampling(documents.generation)
    special = read_special_tokens(
        documents.tokenizer_config,
        documents.special_tokens_map,
        config.model_type,
        documents.config,
    )
    read = read_tokenizer(files, documents.tokenizer_config, documents.added_tokens, special, rows)
    named, bos_notes = _named(special, read, documents)
    bos = bos_of(read.complete, documents.tokenizer_config, named.get("bos_token"), rows)
    template = find_template(files, documents.tokenizer_config)
    trial = None
    if template.source is not None:
        trial = try_chats(ChatTemplate(template.source, named), read.complete)
        _check_rows(trial, read, rows)
    eos_token = named.get("eos_token")
    stop_ids, stop_notes = stop_ids_of(read.complete, documents.with_ids, eos_token, trial, rows)
    pad_id, pad_notes = _pad_id(documents, rows)
    complete = None
    if special_tokens(documents.tokenizer_config) != named:
        complete = {**documents.tokenizer_config, **named}
    return TextFiles(
        files=files,
        chat_template=template.source,
        special_tokens=named,
        bos_id=bos.id,
        pad_id=pad_id,
        stop_ids=stop_ids,
        tokenizer_size=read.size,
        notes=(
            *read.notes,
            *special.notes,
            *bos_notes,
            *bos.notes,
            *template.notes,
            *(trial.notes if trial is not None else ()),
            *stop_notes,
            *pad_notes,
            *sampling_notes,
        ),
        tokenizer_config=complete,
        added_tokens=read.added,
        sampling=sampling,
        chats=trial.cases if trial is not None else (),
    )


def _named(
    special: SpecialTokens, read: CheckpointTokenizer, documents: _Documents
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the special tokens that templates can name, and notes."""
    named = {name: text for name, text in special.stated.items() if text is not None}
    for name, text in special.defaults.items():
        if name not in special.stated and text and read.complete.token_to_id(text) is not None:
            named[name] = text
    if "bos_token" in named or "bos_token" in {*special.stated, *special.defaults}:
        return named, ()
    bos_id = documents.token_id("bos_token_id")
    text = None if bos_id is None else read.complete.id_to_token(bos_id)
    if text is None:
        return named, ()
    note = f"bos_token is {text}: the text of bos_token_id {bos_id}, because no file names it"
    return {**named, "bos_token": text}, (note,)


def _check_rows(trial: TrialChats, read: CheckpointTokenizer, rows: int) -> None:
    """Refuse a template that needs tokens which the model has no row for."""
    used = {i for case in trial.cases for i in case.ids}
    if trial.ending is not None:
        used |= set(read.complete.encode(trial.ending))
    missing = [f"{text} (id {i})" for text, i in read.rowless.items() if i in used]
    if missing:
        raise BuildError(
            f"the chat template uses {names(missing)}, but the model has {rows} rows in its "
            "vocabulary; resize the model's embeddings and train these tokens, or take the "
            "template that belongs to the weights"
        )


def _pad_id(documents: _Documents, rows: int) -> tuple[int | None, tuple[str, ...]]:
    pad_id = documents.token_id("pad_token_id")
    if pad_id is None or pad_id < rows:
        return pad_id, ()
    return None, (f"pad_token_id {pad_id} has no row in the model, left out: nothing is padded",)


def _write_object(path: Path, document: Mapping[str, Any]) -> None:
    text = json.dumps(document, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
