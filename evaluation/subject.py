"""What is evaluated, checked but not yet loaded: a bundle's artifact, or a checkpoint."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from pocketlm.edge_build.prompts import open_tokenizer
from pocketlm.edge_build.quantization.quality import summarize
from pocketlm.edge_build.text.checkpoint_files import CheckpointFiles
from pocketlm.edge_build.text_files import read_text_files
from pocketlm.evaluation.logit_rows import ArtifactRows, CheckpointRows, LogitRows, ReportLayers
from pocketlm.evaluation.passages import Passage
from pocketlm.models.checkpoint import Checkpoint, open_checkpoint
from pocketlm.models.hub import resolve
from pocketlm.runtime_py import engines
from pocketlm.runtime_py.bundle import open_bundle
from pocketlm.runtime_py.chat_template import MOMENT, ChatTemplate, read_chat_template
from pocketlm.runtime_py.manifest import MANIFEST_NAME
from pocketlm.runtime_py.session import choose_backend, open_session
from pocketlm.runtime_py.tokenizer import Tokenizer, read_tokenizer

# Attention of a whole passage at once holds its square for each head.
_LONGEST_OF_CHECKPOINT = 4096


@dataclass(frozen=True)
class Subject:
    """What gives logits.

    Attributes:
        name: folder, and backend where there is one.
        digest: of all that the logits depend on.
        vocab_size: columns of logits.
        longest: tokens of a passage at most.
        local_window: tokens that local layers see; None where every layer sees all.
        bits_per_weight: with scales.
        size_bytes: of the files that the weights are read from.
        load: makes it ready for a block of code.
    """

    name: str
    digest: str
    vocab_size: int
    tokenizer: Tokenizer
    template: ChatTemplate | None
    longest: int
    local_window: int | None
    bits_per_weight: float
    size_bytes: int
    load: Callable[[ReportLayers], AbstractContextManager[LogitRows]]


def is_bundle(folder: str) -> bool:
    """Say whether a folder holds a bundle."""
    return (Path(folder) / MANIFEST_NAME).is_file()


def artifact_subject(folder: str, backend: str | None, threads: int | None) -> Subject:
    """Return a bundle's artifact; the hashes of its files are checked.

    Args:
        backend: None takes the first whose runtime is installed.

    Raises:
        RunError: no such bundle, file, backend or runtime.
    """
    bundle = open_bundle(folder)
    manifest = bundle.manifest
    name = choose_backend(bundle) if backend is None else backend
    entry = bundle.backend(name)
    runtimes = {one: version(one) for one in engines.load(name).distributions}
    text = (bundle.folder / MANIFEST_NAME).read_text(encoding="utf-8")

    @contextmanager
    def load(report: ReportLayers) -> Iterator[LogitRows]:
        with open_session(bundle, name, threads) as session:
            yield ArtifactRows(session)

    windows = [cache.window for cache in entry.caches if cache.window is not None]
    return Subject(
        name=f"{folder} on {name}",
        digest=_digest(text, name, runtimes),
        vocab_size=manifest.vocab_size,
        tokenizer=read_tokenizer(bundle),
        template=read_chat_template(bundle),
        longest=manifest.context_length,
        local_window=min(windows, default=None),
        bits_per_weight=float(summarize(manifest.tensors)["bits_per_weight"]),
        size_bytes=sum(f.size_bytes for f in manifest.files if f.path.startswith(entry.model)),
        load=load,
    )


def checkpoint_subject(
    name: str, threads: int | None = None, *, remembers: bool = False
) -> Subject:
    """Return a checkpoint as it is, in float32.

    Args:
        name: a folder, a hub id, or "pico".
        threads: that torch computes with from when it is loaded; None leaves them as they are.
        remembers: keep hidden states of passages in memory, for several evaluations against it.

    Raises:
        ModelError, BuildError: it cannot be read.
    """
    checkpoint = open_checkpoint(resolve(name))
    config = checkpoint.config
    text = read_text_files(CheckpointFiles.of(checkpoint), config)
    remembered: dict[Passage, torch.Tensor] | None = {} if remembers else None

    @contextmanager
    def load(report: ReportLayers) -> Iterator[LogitRows]:
        if threads is not None:
            torch.set_num_threads(threads)
        yield CheckpointRows(checkpoint, report, remembered)

    template = None
    if text.chat_template is not None:
        template = ChatTemplate(text.chat_template, text.special_tokens, moment=MOMENT)
    return Subject(
        name=name,
        digest=checkpoint.digest(),
        vocab_size=config.vocab_size,
        tokenizer=open_tokenizer(text),
        template=template,
        longest=min(config.max_position_embeddings, _LONGEST_OF_CHECKPOINT),
        local_window=min((w for w in config.windows if w is not None), default=None),
        bits_per_weight=round(8 * checkpoint.size_bytes / _parameters(checkpoint), 3),
        size_bytes=checkpoint.size_bytes,
        load=load,
    )


def _parameters(checkpoint: Checkpoint) -> int:
    return sum(map(math.prod, checkpoint.shapes.values()))


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
