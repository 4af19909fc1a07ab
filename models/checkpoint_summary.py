"""What a checkpoint is, from config.json and the headers of its weights alone.

Needs no torch. Headers of a folder are read with the library safetensors, those of a hub id are
asked for by range.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from pocketlm.models import families, shapes
from pocketlm.models.config import ModelConfig
from pocketlm.models.errors import ModelError, shown
from pocketlm.models.hub import (
    HubOrigin,
    checkpoint_name,
    hub_origin,
    is_gguf,
    resolve_config,
    tensors_on_hub,
)
from pocketlm.models.safetensors_files import read_headers, read_json
from pocketlm.models.weight_shapes import parameter_count


@dataclass(frozen=True)
class CheckpointSummary:
    """One checkpoint or published shape.

    Attributes:
        commit: of a hub id; None for any other.
        parameters: that config.json makes, a tied embedding once.
        stored_tensors, stored_parameters: in its files, by dtype; empty where there are none.
    """

    name: str
    commit: str | None
    config: ModelConfig
    parameters: int
    notes: tuple[str, ...]
    stored_tensors: Mapping[str, int] = field(default_factory=dict)
    stored_parameters: Mapping[str, int] = field(default_factory=dict)


def summarize_checkpoint(checkpoint: str, revision: str | None = None) -> CheckpointSummary:
    """Read what is known of a checkpoint without its weights.

    Args:
        checkpoint: a folder, a GGUF file, a hub id, "pico", or the name of a published shape.
        revision: branch, tag or commit of a hub id.

    Raises:
        ModelError: it is none of these, or of no known family.
    """
    if checkpoint in shapes.NAMES and revision is None and not Path(checkpoint).exists():
        shape, config = shapes.load(checkpoint), shapes.load(checkpoint).config
        notes = (shape.note,) if shape.note else ()
        return CheckpointSummary(checkpoint, None, config, parameter_count(config), notes)
    if is_gguf(Path(checkpoint)):
        return _of_gguf(Path(checkpoint))
    path = resolve_config(checkpoint, revision)
    published = read_json(path)
    model_type = published.get("model_type")
    if not isinstance(model_type, str):
        raise ModelError(
            f"{path}: has model_type={shown(model_type)}, but one of "
            f"{', '.join(families.NAMES)} is needed"
        )
    family = families.load(model_type)
    config = family.read_config(published)
    origin = hub_origin(path.parent)
    stored = _stored(path.parent, origin)
    counts = Counter(dtype for dtype, _ in stored)
    parameters: Counter[str] = Counter()
    for dtype, dimensions in stored:
        parameters[dtype] += prod(dimensions)
    return CheckpointSummary(
        name=checkpoint_name(path.parent),
        commit=origin.commit if origin else None,
        config=config,
        parameters=parameter_count(config),
        notes=tuple(family.notes),
        stored_tensors=dict(counts),
        stored_parameters=dict(parameters),
    )


def _of_gguf(path: Path) -> CheckpointSummary:
    """Return what a GGUF file holds, from its header.

    Raises:
        ModelError: it is damaged, or of another architecture.
    """
    from pocketlm.models.gguf import architectures
    from pocketlm.models.gguf.config import read_config_json
    from pocketlm.models.gguf.reading import read_gguf

    file = read_gguf(path)
    family = families.load(architectures.load(file.metadata).model_type)
    config = family.read_config(json.loads(read_config_json(file)))
    tensors = file.tensors.values()
    parameters: Counter[str] = Counter()
    for tensor in tensors:
        parameters[tensor.type_name] += prod(tensor.shape)
    return CheckpointSummary(
        name=checkpoint_name(path),
        commit=None,
        config=config,
        parameters=parameter_count(config),
        notes=(),
        stored_tensors=dict(Counter(tensor.type_name for tensor in tensors)),
        stored_parameters=dict(parameters),
    )


def _stored(folder: Path, origin: HubOrigin | None) -> list[tuple[str, tuple[int, ...]]]:
    """Return dtype and shape of every stored tensor, empty where no headers can be read."""
    if any(folder.glob("*.safetensors")):
        try:
            stored = read_headers(folder)
        except ModuleNotFoundError:  # the library safetensors comes with the extras
            return []
        return [(tensor.dtype, tensor.shape) for tensor in stored.values()]
    return [] if origin is None else tensors_on_hub(origin)
