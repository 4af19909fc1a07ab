"""A checkpoint folder or GGUF file: checked when it is opened, read weight by weight afterwards.

Hands out float32 under the Decoder's names.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pocketlm.models import families
from pocketlm.models.coded_slice import CodedSlice
from pocketlm.models.config import ModelConfig
from pocketlm.models.decoder import Decoder
from pocketlm.models.errors import ModelError, shown
from pocketlm.models.family import Family
from pocketlm.models.foreign_tensors import (
    TRAINING_HEADS,
    notes,
    refuse_adapter_alone,
    refuse_foreign,
)
from pocketlm.models.formats import FoundFormat, find_format
from pocketlm.models.hub import is_gguf
from pocketlm.models.packed_tensors import PackedTensors
from pocketlm.models.safetensors_files import StoredTensor, parse_json, read_headers
from pocketlm.models.stored_weight import DTYPES, StoredSlice, StoredWeight
from pocketlm.models.tensor_prefixes import Spelling, find_spelling
from pocketlm.models.tensor_views import Layout, TensorSlice, lay_out, published_name
from pocketlm.models.weight_shapes import weight_shapes

# Buffers that old versions of transformers wrote; they follow from the config.
_IGNORED_EVERYWHERE = ("*.rotary_emb.inv_freq",)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files were checked: every weight is there, in its shape.

    Attributes:
        folder: of the files; a GGUF file is a checkpoint by itself, and stands here.
        config_json: bytes of config.json.
        notes: what a build prints for the user.
        tensors: where each weight lies, by the Decoder's name without ".weight".
        text_files: makes tokenizer and other text files by name, where they are not in a folder.
    """

    folder: Path
    config_json: bytes
    config: ModelConfig
    notes: tuple[str, ...]
    tensors: Mapping[str, StoredWeight]
    text_files: Callable[[], Mapping[str, bytes]] | None = field(default=None, repr=False)

    @property
    def size_bytes(self) -> int:
        """Bytes of the weights as they are stored."""
        return sum(tensor.size_bytes for tensor in self.tensors.values())

    def names(self) -> tuple[str, ...]:
        """Return the weights' names; a tied model has no lm_head."""
        return tuple(self.tensors)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every weight, by name."""
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a weight's shape, [out, in] or [size]."""
        return self.tensors[name].shape

    def read(self, name: str) -> Tensor:
        """Return a whole weight in float32; a norm's holds the family's offset already."""
        return self.read_rows(name, 0, self.shape(name)[0])

    def read_rows(self, name: str, start: int, stop: int) -> Tensor:
        """Return rows start..stop of a weight in float32.

        Memory: the result, and a block of a few megabytes in the stored dtype.
        """
        rows = self.tensors[name].rows(start, stop)
        if name.endswith("norm"):
            rows += self.config.norm_weight_offset
        return rows

    def digest(self) -> str:
        """Return a sha256 over config.json and every weight, the same however it is sharded."""
        digest = hashlib.sha256(self.config_json)
        for name, tensor in sorted(self.tensors.items()):
            digest.update(f"\n{name} {tensor.dtype} {tensor.shape}\n".encode())
            for block in tensor.blocks():
                digest.update(block)
        return digest.hexdigest()


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open a folder in Hugging Face format, or a GGUF file, and check all of it but the numbers.

    Raises:
        ModelError: something is missing, superfluous, damaged or not supported; says what.
    """
    try:
        if is_gguf(folder):
            # It makes the class of this module.
            from pocketlm.models.gguf.opening import open_gguf

            return open_gguf(folder)
        return _open(folder)
    except OSError as error:
        raise ModelError(
            f"{error.filename or folder}: cannot be read ({error.strerror}); "
            "check its permissions and the disk"
        ) from error


def load_decoder(checkpoint: Checkpoint) -> Decoder:
    """Return the whole model in float32, for training's end, tests and small models."""
    with torch.device("meta"):
        decoder = Decoder(checkpoint.config)
    for name in checkpoint.names():
        weight = torch.nn.Parameter(checkpoint.read(name), requires_grad=False)
        decoder.get_submodule(name).register_parameter("weight", weight)
    if checkpoint.config.tie_word_embeddings:
        decoder.lm_head.weight = decoder.embed_tokens.weight
    return decoder.eval()


def _open(folder: Path) -> Checkpoint:
    config_json = _read_config(folder)
    published = _parse_config(config_json, folder / "config.json")
    family = families.load(published["model_type"])
    config = family.read_config(published)
    headers = read_headers(folder)
    found = find_format(published, headers)
    packed = {n: tensor for n, tensor in headers.items() if found and found.format.claims(n)}
    stored = {name: tensor for name, tensor in headers.items() if name not in packed}
    refuse_foreign(folder, published, stored)
    shapes = weight_shapes(config)
    spelling = find_spelling(family, {*stored, *map(_weight_of, packed)})
    names = spelling.names
    layout = lay_out(names, shapes)
    coded = _open_coded(found, packed, layout)
    for theirs, shape in layout.shapes.items():
        if theirs in coded:
            continue
        if theirs not in stored:
            raise _missing(folder, theirs, shape, spelling)
        _check(theirs, stored[theirs], shape)
    of_format = found.notes if found else notes(published, stored)
    all_notes = (*family.notes, *spelling.notes, *of_format)
    head, table = (published_name(names, name) for name in ("lm_head", "embed_tokens"))
    if config.tie_word_embeddings and head in stored and table in stored:
        _check(head, stored[head], shapes["embed_tokens"])
        _check_tied(head, table, stored)
        all_notes += (f"{head} is left out: it repeats the embedding.",)
    unused = {name for name in packed if _weight_of(name) not in coded}
    _refuse_superfluous(
        folder, {*stored, *unused} - layout.shapes.keys() - {head}, family, spelling
    )

    def sliced(piece: TensorSlice) -> StoredSlice | CodedSlice:
        if piece.name in coded:
            return replace(coded[piece.name], start=piece.start, rows=piece.rows)
        return StoredSlice.at(stored[piece.name], piece)

    tensors = {
        name: StoredWeight(shape, tuple(map(sliced, layout.slices[name])))
        for name, shape in shapes.items()
    }
    return Checkpoint(folder, config_json, config, all_notes, tensors)


def _weight_of(packed: str) -> str:
    """Return the name of the weight that a tensor of codes, scales or zero points is part of."""
    return f"{packed.rpartition('.')[0]}.weight"


def _refuse_superfluous(
    folder: Path, names: Collection[str], family: Family, spelling: Spelling
) -> None:
    ignored = (*family.ignored_tensors, *_IGNORED_EVERYWHERE, *TRAINING_HEADS)
    for theirs in sorted(names):
        inner = theirs.removeprefix(spelling.outer)
        if not any(fnmatchcase(inner, pattern) for pattern in ignored):
            raise ModelError(
                f"{theirs}: in {folder}, but config.json has no place for it, so the model would "
                "compute something else; use the config.json that belongs to these weights"
            )


def _open_coded(
    found: FoundFormat | None, packed: Mapping[str, StoredTensor], layout: Layout
) -> dict[str, CodedSlice]:
    """Return the weights that are stored as codes, whole, by their published names."""
    coded: dict[str, CodedSlice] = {}
    if found is None:
        return coded
    codes = found.format.endings[0]
    for theirs, shape in layout.shapes.items():
        prefix = theirs.removesuffix("weight")
        if f"{prefix}{codes}" not in packed:
            continue
        pieces = [
            piece for part in layout.slices.values() for piece in part if piece.name == theirs
        ]
        if len(shape) != 2 or any(p.is_transposed or p.layer is not None for p in pieces):
            raise ModelError(
                f"{prefix}{codes}: {found.format.title} codes of a weight that this family stores "
                "transposed or stacked; give the checkpoint that it was made from"
            )
        weight = found.open_weight(PackedTensors(prefix, (shape[0], shape[1]), packed))
        coded[theirs] = CodedSlice(weight, 0, shape[0])
    return coded


def _read_config(folder: Path) -> bytes:
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder; give a folder with config.json and weights")
    refuse_adapter_alone(folder)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder}: no config.json in it; give a checkpoint folder in Hugging Face format"
        )
    return (folder / "config.json").read_bytes()


def _parse_config(data: bytes, path: Path) -> dict[str, Any]:
    published = parse_json(data, path)
    if not isinstance(published.get("model_type"), str):
        raise ModelError(
            f"{path}: has model_type={shown(published.get('model_type'))}, "
            f"but one of {', '.join(families.NAMES)} is needed"
        )
    return published


def _missing(folder: Path, name: str, shape: tuple[int, ...], spelling: Spelling) -> ModelError:
    others = f" ({spelling.notes[0]})" if spelling.notes else ""
    return ModelError(
        f"{name}: missing from {folder}, but config.json needs it with shape {list(shape)}"
        f"{others}; use a complete checkpoint, or a config.json that fits it"
    )


def _check(name: str, stored: StoredTensor, shape: tuple[int, ...]) -> None:
    if stored.shape != shape:
        raise ModelError(
            f"{name}: shape {list(stored.shape)} in {stored.path.name}, but config.json makes it "
            f"{list(shape)}; the two do not belong together"
        )
    if stored.dtype not in DTYPES:
        raise ModelError(
            f"{name}: dtype {stored.dtype} in {stored.path.name}, but only "
            f"{', '.join(DTYPES)} can be read; give the unquantized checkpoint"
        )


def _check_tied(head: str, table: str, stored: Mapping[str, StoredTensor]) -> None:
    for head_block, table_block in zip(_sample(stored[head]), _sample(stored[table]), strict=True):
        if head_block != table_block:
            raise ModelError(
                f"{head}: differs from {table}, although "
                "tie_word_embeddings is true; set it to false in config.json"
            )


def _sample(tensor: StoredTensor) -> Iterator[bytes]:
    # A few rows tell two tables apart; comparing them whole would read gigabytes.
    rows = tensor.shape[0]
    yield tensor.dtype.encode()
    for row in sorted({rows * part // 64 for part in range(64)} | {rows - 1}):
        yield bytes(tensor.read_bytes(row * tensor.row_bytes, (row + 1) * tensor.row_bytes))
