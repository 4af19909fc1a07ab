"""A GGUF file → a Checkpoint: its weights under the Decoder's names, checked."""

import json
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pocketlm.models import families
from pocketlm.models.checkpoint import Checkpoint
from pocketlm.models.coded_slice import CodedSlice
from pocketlm.models.errors import ModelError
from pocketlm.models.gguf import architectures
from pocketlm.models.gguf.config import read_config_json
from pocketlm.models.gguf.metadata import Metadata
from pocketlm.models.gguf.reading import PLAIN, GgufTensor, library, read_gguf
from pocketlm.models.gguf.tokenizer import tokenizer_files
from pocketlm.models.stored_weight import StoredSlice, StoredWeight
from pocketlm.models.tensor_views import published_name
from pocketlm.models.weight_shapes import weight_shapes

# Tables of rotations that some converters write; they follow from the metadata.
_IGNORED = ("rope_freqs.weight",)


def open_gguf(path: Path) -> Checkpoint:
    """Open a file and check all of it but the numbers.

    Raises:
        ModelError: it is damaged, a part of several, of another architecture, or a tensor is
            missing, superfluous or of another shape.
    """
    file = read_gguf(path)
    metadata, tensors = file.metadata, dict(file.tensors)
    parts = metadata.find("split.count")
    if isinstance(parts, int) and parts > 1:
        raise ModelError(
            f"{path}: one of {parts} parts of a model; join them with llama-gguf-split --merge "
            f"{path.name} WHOLE.gguf"
        )
    architecture = architectures.load(metadata)
    config_json = read_config_json(file)
    family = families.load(architecture.model_type)
    config = family.read_config(json.loads(config_json))
    if architecture.norms_hold_offset:
        config = replace(config, norm_weight_offset=0.0)
    theirs = _name_map(metadata, config.num_layers)
    weights: dict[str, StoredWeight] = {}
    counts: Counter[str] = Counter()
    for name, shape in weight_shapes(config).items():
        published = published_name(family.tensor_names, name)
        stored_name = theirs.get_name(published, try_suffixes=(".weight",)) or published
        tensor = tensors.pop(stored_name, None)
        _check(path, stored_name, tensor, shape)
        assert tensor is not None
        weights[name] = StoredWeight(shape, (_slice(tensor),))
        if tensor.grid is None and tensor.type_name not in PLAIN:
            counts[tensor.type_name] += 1
    for name in sorted(tensors.keys() - set(_IGNORED)):
        raise ModelError(
            f"{path}: {name} has no place in a {metadata.architecture} model, so the model would "
            "compute something else; take a file of the language model alone"
        )
    text_files = partial(tokenizer_files, metadata, config.vocab_size)
    return Checkpoint(path, config_json, config, _notes(counts), weights, text_files)


def _name_map(metadata: Metadata, layers: int) -> Any:
    gguf = library()
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    return gguf.get_tensor_name_map(kinds[metadata.architecture], layers)


def _check(path: Path, name: str, tensor: GgufTensor | None, shape: tuple[int, ...]) -> None:
    if tensor is None:
        raise ModelError(
            f"{path}: {name} is missing, of shape {list(shape)}; download the file again"
        )
    if tensor.shape != shape:
        raise ModelError(
            f"{path}: {name} has shape {list(tensor.shape)}, but the metadata make it "
            f"{list(shape)}; the file is damaged, download it again"
        )


def _slice(tensor: GgufTensor) -> StoredSlice | CodedSlice:
    if tensor.type_name in PLAIN:
        return StoredSlice(tensor.stored)
    return CodedSlice(tensor, 0, tensor.shape[0])


def _notes(counts: Counter[str]) -> tuple[str, ...]:
    if not counts:
        return ()
    types = ", ".join(f"{count} of type {name}" for name, count in sorted(counts.items()))
    return (f"Weights dequantized, because no grid of ours holds their blocks: {types}.",)
