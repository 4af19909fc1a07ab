"""Deliberate faults of a built bundle, each small: what `verify` must see (docs/numerics.md).

Whoever made such a bundle would have repaired its digests, so every file's and the manifest's are.
The ONNX artifact is changed, because its graph is an open document.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from models.config import LayerConfig
from models.layers import inverse_frequencies, rotary_tables
from runtime_py.bundle import open_bundle
from runtime_py.errors import RunError
from runtime_py.manifest import MANIFEST_NAME, BackendEntry, FileEntry
from runtime_py.verdict import Verdict
from runtime_py.verification import verify

MODEL = "onnx/model.onnx"


class Copy:
    """A copy of a bundle whose ONNX graph, files and manifest can be changed.

    Attributes:
        graph: with all weights inside.
        changes: of the manifest's fields.
    """

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.folder = Path(shutil.copytree(bundle, folder))
        self.manifest = open_bundle(bundle, check_hashes=False).manifest
        self.model = onnx.load(bundle / MODEL)
        self.graph = self.model.graph
        self.changes: dict[str, Any] = {}
        self.written: set[str] = set()

    def nodes(self, kind: str) -> list[Any]:
        return [node for node in self.graph.node if node.op_type == kind]

    def attention(self, layer: int) -> Any:
        return self.nodes("GroupQueryAttention")[layer]

    @property
    def local_layers(self) -> list[int]:
        caches = self.manifest.backends["onnx"].caches
        return [layer for layer, cache in enumerate(caches) if cache.window is not None]

    def weight(self, name: str) -> NDArray[Any]:
        return numpy_helper.to_array(self._tensor(name)).copy()

    def set_weight(self, name: str, values: NDArray[Any]) -> None:
        self._tensor(name).CopyFrom(numpy_helper.from_array(values, name))

    def change(self, name: str, change: Callable[[NDArray[Any]], object]) -> None:
        """Change a weight in place."""
        values = self.weight(name)
        change(values)
        self.set_weight(name, values)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.unlink()
        path.write_text(text, encoding="utf-8")
        self.written.add(name)

    def change_entry(self, change: Callable[[BackendEntry], BackendEntry]) -> None:
        backends = dict(self.manifest.backends)
        self.changes["backends"] = {**backends, "onnx": change(backends["onnx"])}

    def finish(self) -> Path:
        """Write the graph, and digests of everything as it is now."""
        (self.folder / MODEL).unlink()
        onnx.save(self.model, self.folder / MODEL)
        files = tuple(
            self._entry(file) if file.path in {MODEL, *self.written} else file
            for file in self.manifest.files
        )
        manifest = replace(self.manifest, files=files, **self.changes)
        (self.folder / MANIFEST_NAME).unlink()
        (self.folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
        return self.folder

    def _entry(self, file: FileEntry) -> FileEntry:
        data = (self.folder / file.path).read_bytes()
        return FileEntry(file.path, hashlib.sha256(data).hexdigest(), len(data))

    def _tensor(self, name: str) -> Any:
        return next(tensor for tensor in self.graph.initializer if tensor.name == name)


@dataclass(frozen=True)
class Corruption:
    """One fault.

    Attributes:
        missed: why verify cannot see it; empty where it must.
    """

    what: str
    apply: Callable[[Copy], object]
    missed: str = ""


def attribute(node: Any, name: str) -> Any:
    return next(value for value in node.attribute if value.name == name)


def _windows(change: int, *layers: int) -> Callable[[Copy], object]:
    def apply(copy: Copy) -> None:
        for layer in layers or copy.local_layers:
            attribute(copy.attention(layer), "local_window_size").i += change

    return apply


def _scale(layer: int, factor: float) -> Callable[[Copy], object]:
    def apply(copy: Copy) -> None:
        attribute(copy.attention(layer), "scale").f *= factor

    return apply


def _rotary(base: int, factor: float) -> Callable[[Copy], object]:
    """Make the tables of a base anew for another one."""

    def apply(copy: Copy) -> None:
        head_dim = int(copy.manifest.model["head_dim"])
        frequencies = inverse_frequencies(LayerConfig(None, base * factor), head_dim)
        tables = rotary_tables(torch.arange(copy.manifest.context_length), frequencies)
        for kind, table in zip(("cosines", "sines"), tables, strict=True):
            copy.set_weight(f"rotary.{kind}_{base}_1", table.numpy())

    return apply


def _rows(name: str, change: Callable[[NDArray[Any]], object]) -> Callable[[Copy], object]:
    return lambda copy: copy.change(name, change)


def _times(place: Any, factor: float) -> Callable[[NDArray[Any]], object]:
    def change(values: NDArray[Any]) -> None:
        values[place] = (values[place] * factor).astype(values.dtype)

    return change


def _swap_rows(first: Any, second: Any) -> Callable[[NDArray[Any]], object]:
    def change(values: NDArray[Any]) -> None:
        values[first], values[second] = values[second].copy(), values[first].copy()

    return change


def _flip(place: Any, bits: int) -> Callable[[NDArray[Any]], object]:
    def change(values: NDArray[Any]) -> None:
        values[place] ^= bits

    return change


def _noise(copy: Copy) -> None:
    generator = np.random.default_rng(1)
    last = len(copy.manifest.model["layers"]) - 1
    for part in ("qkv_proj", "o_proj"):
        name = f"layers.{last}.attention.{part}.scales"
        copy.change(name, lambda x: x.__imul__(generator.normal(1, 0.03, x.shape).astype("f4")))


def _shared_table(change: Callable[[NDArray[Any]], object], part: str) -> Callable[[Copy], object]:
    """Change the table that is both embedding and head; rows are those of tokens."""

    def apply(copy: Copy) -> None:
        copy.change(f"embed_tokens.{part}", change)
        copy.change(f"lm_head.{part}", change)

    return apply


def _epsilon(index: int, value: float) -> Callable[[Copy], object]:
    def apply(copy: Copy) -> None:
        attribute(copy.nodes("RMSNormalization")[index], "epsilon").f = value

    return apply


def _erf(*layers: int) -> Callable[[Copy], object]:
    def apply(copy: Copy) -> None:
        gelus = copy.nodes("Gelu")
        for layer in layers or range(len(gelus)):
            attribute(gelus[layer], "approximate").s = b"none"

    return apply


def _swap_weights(first: str, second: str) -> Callable[[Copy], object]:
    def apply(copy: Copy) -> None:
        values = copy.weight(first)
        copy.set_weight(first, copy.weight(second))
        copy.set_weight(second, values)

    return apply


def _softcap(copy: Copy) -> None:
    copy.attention(2).attribute.append(onnx.helper.make_attribute("softcap", 50.0))


def _no_rotation(copy: Copy) -> None:
    attribute(copy.attention(2), "do_rotary").i = 0


def _gate_and_up(copy: Copy) -> None:
    products = copy.nodes("MatMulNBits")
    gate = next(node for node in products if "layers.1.mlp.gate_proj.codes" in node.input)
    up = next(node for node in products if "layers.1.mlp.up_proj.codes" in node.input)
    gate.output[0], up.output[0] = up.output[0], gate.output[0]


def _skip_residual(copy: Copy) -> None:
    last = copy.nodes("Add")[-1]
    last.input[0] = last.input[1]


def _embedding_scale(copy: Copy) -> None:
    (gathered,) = copy.nodes("GatherBlockQuantized")
    scaled = next(node for node in copy.nodes("Mul") if gathered.output[0] in node.input)
    copy.set_weight(scaled.input[1], copy.weight(scaled.input[1]) * np.float32(1.004))


def _table_of(base: int, change: Callable[[NDArray[Any]], object]) -> Callable[[Copy], object]:
    return lambda copy: copy.change(f"rotary.cosines_{base}_1", change)


def _document(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Copy], object]:
    def apply(copy: Copy) -> None:
        document = json.loads((copy.folder / name).read_text())
        change(document)
        copy.write(name, json.dumps(document))

    return apply


def _template(copy: Copy) -> None:
    name = "chat_template.jinja"
    text = (copy.folder / name).read_text()
    copy.write(name, text + "{% if messages | length > 4 %} {% endif %}")


def _cache(**changes: Any) -> Callable[[Copy], object]:
    def apply(copy: Copy) -> None:
        copy.change_entry(
            lambda entry: replace(
                entry, caches=(replace(entry.caches[0], **changes), *entry.caches[1:])
            )
        )

    return apply


def _last_row(values: NDArray[Any]) -> None:
    values[-1] = values[-2]


_MLP, _QKV = "layers.3.mlp", "layers.3.attention.qkv_proj"
CORRUPTIONS = (
    Corruption("window one shorter in one layer", _windows(-1, 0)),
    Corruption("window one longer in one layer", _windows(1, 4)),
    Corruption("window one shorter in every local layer", _windows(-1)),
    Corruption("window one longer in every local layer", _windows(1)),
    Corruption("rotary base of global layers × 1.01", _rotary(1_000_000, 1.01)),
    Corruption("rotary base of local layers × 1.01", _rotary(10_000, 1.01)),
    Corruption("rotary base of global layers × 1.1", _rotary(1_000_000, 1.1)),
    Corruption("last row of a rotary table is the one before", _table_of(10_000, _last_row)),
    Corruption(
        "two rows in the middle of a rotary table exchanged",
        _table_of(1_000_000, _swap_rows(slice(300, 301), slice(301, 302))),
    ),
    Corruption("no rotation in one layer", _no_rotation),
    Corruption("erf form of GELU in every layer", _erf()),
    Corruption("erf form of GELU in one layer", _erf(3)),
    Corruption("attention scale × 1.01 in one layer", _scale(3, 1.01)),
    Corruption("attention scale × 1.001 in one layer", _scale(3, 1.001)),
    Corruption("soft cap of 50 on one layer's scores", _softcap),
    Corruption(
        "epsilon of one norm 1e-5 for 1e-6",
        _epsilon(7, 1e-5),
        missed="it changes no logit by more than the order of float sums does",
    ),
    Corruption("one weight of a norm × 1.05", _rows("layers.2.mlp_norm.weight", _times(5, 1.05))),
    Corruption("final norm × 1.002", _rows("norm.weight", _times(slice(None), 1.002))),
    Corruption(
        "norms of two layers exchanged",
        _swap_weights("layers.1.mlp_norm.weight", "layers.2.mlp_norm.weight"),
    ),
    Corruption("embedding scale × 1.004, as bfloat16 may round", _embedding_scale),
    Corruption("last residual connection left out", _skip_residual),
    Corruption("gate and up exchanged in one layer", _gate_and_up),
    Corruption("one scale × 2 in a query projection", _rows(f"{_QKV}.scales", _times((3, 1), 2))),
    Corruption("one scale × 2 in an MLP", _rows(f"{_MLP}.down_proj.scales", _times((9, 4), 2))),
    Corruption("one scale × 1.1 in an MLP", _rows(f"{_MLP}.down_proj.scales", _times((9, 4), 1.1))),
    Corruption("one scale × 2 of a token's row", _shared_table(_times((2000, 3), 2), "scales")),
    Corruption("noise of 3 % on the scales of the last layer's attention", _noise),
    Corruption("highest bit of one code", _rows(f"{_MLP}.down_proj.codes", _flip((9, 4, 3), 8))),
    Corruption("lowest bit of one code", _rows(f"{_MLP}.down_proj.codes", _flip((9, 4, 3), 1))),
    Corruption("16 bytes of codes lost", _rows(f"{_MLP}.up_proj.codes", _times((50, 3), 0))),
    Corruption("one zero point 9 for 8", _rows(f"{_MLP}.up_proj.zero_points", _flip((7, 1), 1))),
    Corruption("one row of the head lost", _rows("lm_head.codes", _flip((777,), 0x77))),
    Corruption(
        "200 rows of the embedding exchanged",
        _rows("embed_tokens.codes", _swap_rows(slice(3100, 3200), slice(3200, 3300))),
    ),
    Corruption(
        "one row of the embedding that no golden text feeds",
        _rows("embed_tokens.codes", _flip((3001,), 0x77)),
        missed="the verdict says how many rows none feeds; here the head has rows of its own",
    ),
    Corruption("no BOS", lambda copy: copy.changes.update(bos_id=None)),
    Corruption("another window in the manifest", _cache(window=65)),
    Corruption(
        "another depth of rewinding",
        lambda copy: copy.change_entry(lambda entry: replace(entry, rewind_tokens=None)),
    ),
    Corruption(
        "another sampling default",
        _document("generation_config.json", lambda document: document.update(temperature=0.3)),
    ),
    Corruption(
        "genai_config.json without chunks",
        _document("genai_config.json", lambda document: document["search"].pop("chunk_size")),
    ),
    Corruption("a template that differs from the fifth message on", _template),
)


def verdict_on(bundle: Path, corruption: Corruption, folder: Path) -> Verdict | None:
    """Return what verify finds in a corrupted copy; None if it cannot even be opened."""
    copy = Copy(bundle, folder / "copy")
    corruption.apply(copy)
    try:
        return verify(open_bundle(copy.finish()), "onnx", threads=1)
    except RunError:
        return None
    finally:
        shutil.rmtree(copy.folder)


def table_row(corruption: Corruption, found: Verdict | None) -> str:
    """Return a line of the table in docs/numerics.md."""
    if found is None:
        return f"| {corruption.what} | refused | | |"
    checks = ", ".join(dict.fromkeys(mismatch.check for mismatch in found.mismatches))
    outcome = f"missed: {corruption.missed}" if found.passed else f"caught: {checks}"
    errors = (found.max_logit_error_std, found.strict.max_logit_error_std)
    return f"| {corruption.what} | {' | '.join(f'{error:.2g}' for error in errors)} | {outcome} |"
