"""Reading a folder of safetensors files: headers first, then only the rows asked for.

Reads with plain file reads instead of a memory map, so that resident memory follows the rows
asked for and not the file.
Format: https://huggingface.co/docs/safetensors/index#format
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from pocketlm.models.errors import ModelError, shortened, shown

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
ADAPTER_NAME = "adapter_model.safetensors"

DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
# What codes of other quantizers are kept in.
CODE_DTYPE_BYTES = {"I8": 1, "U8": 1, "I32": 4, "I64": 8}
_BYTES = {**DTYPE_BYTES, **CODE_DTYPE_BYTES}


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies.

    Attributes:
        dtype: as the format spells it: "F32", "F16", "BF16", ...
        offset: of the first byte, from the start of the file.

    Sizes are known of the dtypes in DTYPE_BYTES, which are those that weights can have, and of
    those that codes can have.
    """

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size_bytes(self) -> int:
        return prod(self.shape) * _BYTES[self.dtype]

    @property
    def row_bytes(self) -> int:
        """Bytes of one entry of the first dimension."""
        return prod(self.shape[1:]) * _BYTES[self.dtype]

    def read_bytes(self, start: int, stop: int) -> bytearray:
        """Return bytes start..stop of the tensor, writable for a tensor to live in."""
        buffer = bytearray(stop - start)
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.offset + start)
            done, view = 0, memoryview(buffer)
            while done < len(buffer):
                count = file.readinto(view[done:])
                if not count:
                    raise ModelError(
                        f"{self.path}: ends within a tensor although its header was complete; "
                        "it was changed while being read. Start again"
                    )
                done += count
        return buffer

    def blocks(self, block_bytes: int) -> Iterator[bytearray]:
        """Yield the tensor's bytes in order, at most `block_bytes` at once."""
        for start in range(0, self.size_bytes, block_bytes):
            yield self.read_bytes(start, min(start + block_bytes, self.size_bytes))


def read_headers(folder: Path) -> dict[str, StoredTensor]:
    """Return every tensor of a checkpoint folder by its published name.

    `model.safetensors` alone, else the shards that the index names, else every *.safetensors.

    Raises:
        ModelError: no such file, a shard is absent, or a file is damaged.
    """
    index: dict[str, str] = {}
    if (folder / SINGLE_NAME).is_file():
        files = [SINGLE_NAME]
    elif (folder / INDEX_NAME).is_file():
        index = _read_index(folder / INDEX_NAME)
        files = sorted(set(index.values()))
    else:
        found = {path.name for path in folder.glob("*.safetensors")}
        files = sorted(found - {ADAPTER_NAME})
        if not files:
            raise _no_safetensors(folder)
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        if not (folder / file).is_file():
            raise ModelError(
                f"{folder / file}: absent, although {INDEX_NAME} names it; "
                "download the checkpoint again"
            )
        for name, tensor in _read_header(folder / file).items():
            if name in tensors:
                raise ModelError(
                    f"{name}: both in {tensors[name].path.name} and in {file} of {folder}; "
                    "remove the file that does not belong to the checkpoint"
                )
            tensors[name] = tensor
    for name, file in index.items():
        if name not in tensors or tensors[name].path.name != PurePosixPath(file).name:
            raise ModelError(
                f"{name}: not in {folder / file}, although {INDEX_NAME} says so; "
                "download the checkpoint again"
            )
    return tensors


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object from a file."""
    return parse_json(path.read_bytes(), path)


def parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """Return the JSON object that was read from a file."""
    try:
        values = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{path}: not valid JSON ({shortened(str(error))}); download it again"
        ) from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: holds a {type(values).__name__}, not an object in braces")
    return values


def _read_index(path: Path) -> dict[str, str]:
    index = read_json(path).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise ModelError(f'{path}: has no "weight_map"; download the checkpoint again')
    for name, file in index.items():
        # Symbolic links stay allowed: the Hub's cache is made of them.
        leaves = not isinstance(file, str) or (
            not file.isprintable()
            or PurePosixPath(file).is_absolute()
            or PureWindowsPath(file).drive
            or ".." in PureWindowsPath(file).parts
        )
        if leaves:
            raise ModelError(
                f"{path}: says that {name} is in {shown(file)}, which is not inside the folder; "
                "do not use this checkpoint"
            )
    return index


def _read_header(path: Path) -> dict[str, StoredTensor]:
    from safetensors import SafetensorError, safe_open

    try:
        # The format's own library: lengths, offsets without gap or overlap, shapes, UTF-8.
        with safe_open(path, "numpy"):
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length), object_pairs_hook=_unique)
        return {
            name: StoredTensor(
                path, entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0]
            )
            for name, entry in header.items()
            if name != "__metadata__"
        }
    # The library takes entries as lists too, in the order of their keys; nobody writes that.
    except (SafetensorError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise _damaged(path, shortened(str(error))) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Readers of the format disagree on which of two tensors of one name counts.
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the header names {shown(twice)} twice")
    return found


def _damaged(path: Path, why: str) -> ModelError:
    return ModelError(
        f"{path}: truncated or damaged: {why}; download it again (git-lfs pointers are not weights)"
    )


def _no_safetensors(folder: Path) -> ModelError:
    pickles = sorted(path.name for end in ("bin", "pth", "pt") for path in folder.glob(f"*.{end}"))
    if not pickles:
        return ModelError(
            f"{folder}: no {SINGLE_NAME}, no {INDEX_NAME} and no other *.safetensors file; "
            "give the folder that a published checkpoint was downloaded to"
        )
    return ModelError(
        f"{folder}: weights only as pickle ({pickles[0]}), which runs code when it is opened. "
        "If you trust it, convert it with transformers: AutoModelForCausalLM.from_pretrained("
        f"{str(folder)!r}).save_pretrained('NEW_FOLDER') writes safetensors"
    )
