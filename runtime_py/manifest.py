"""The bundle contract on disk: what manifest.json says.

The reader owns the format: builders fill these values in, every runtime reads them.
`docs/bundle-format.md` describes each field.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pocketlm.runtime_py.cache_layout import CacheLayout
from pocketlm.runtime_py.caches import load as load_cache_kind
from pocketlm.runtime_py.components import DECODER, Component
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.kv_choice import KvMeasured
from pocketlm.runtime_py.manifest_upgrade import upgrade_format_1
from pocketlm.runtime_py.readings import Readings
from pocketlm.runtime_py.typed_json import FieldError, load_object, read_as

FORMAT_VERSION = 2
MANIFEST_NAME = "manifest.json"
_DIGEST_KEY = "manifest_sha256"

ActivationQuantization = Literal["none", "per_token_asymmetric", "per_block_symmetric"]
CacheQuantization = Literal["none", "per_channel", "per_token"]
AttentionQuantization = Literal["none", "kv_per_channel", "kv_per_token", "qkv_per_token"]

DTYPE_BYTES: Mapping[str, int] = {"float32": 4, "int8": 1}
# Beside the codes of a token and head: a float32 scale and an int8 zero point.
_TOKEN_SCALE_BYTES = 4 + 1
_CONSTANT_SCALE_BYTES = 4


@dataclass(frozen=True)
class FileEntry:
    """One file of the bundle; `path` is relative with forward slashes."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class CacheEntry:
    """The key/value cache of one layer.

    Attributes:
        kind: the name of a file in `runtime_py/caches`, which says what is in which slot.
        capacity: slots.
        window: keys that a query sees, itself included; None sees all.
        dtype: of what a slot holds, "float32" or "int8" codes.
        quantization: where the scales of int8 codes are. "per_channel" is one constant scale for
            each head's channels, in the artifact; "per_token" is a float32 scale and an int8 zero
            point beside each head's codes, in the cache.
    """

    kind: str
    capacity: int
    window: int | None
    num_key_value_heads: int
    head_dim: int
    dtype: str = "float32"
    quantization: CacheQuantization = "none"

    @property
    def layout(self) -> CacheLayout:
        """What is in which slot, and what of it a query sees.

        Raises:
            RunError: there is no such kind.
        """
        return load_cache_kind(self.kind)(self.capacity, self.window)

    @property
    def slot_bytes(self) -> int:
        """Bytes of a slot's keys and values together, with the scales that are kept there."""
        head_bytes = self.head_dim * DTYPE_BYTES[self.dtype]
        if self.quantization == "per_token":
            head_bytes += _TOKEN_SCALE_BYTES
        return 2 * self.num_key_value_heads * head_bytes

    @property
    def size_bytes(self) -> int:
        """Bytes of all slots."""
        return self.capacity * self.slot_bytes

    def touched_bytes(self, length: int) -> int:
        """Bytes of the slots ever written after `length` tokens: the most a decode step reads."""
        return self.layout.touched_slots(length) * self.slot_bytes

    @property
    def scale_bytes(self) -> int:
        """Bytes of the constant scales in the artifact: they do not grow with the slots."""
        if self.quantization != "per_channel":
            return 0
        return 2 * self.num_key_value_heads * self.head_dim * _CONSTANT_SCALE_BYTES


@dataclass(frozen=True)
class OwnGridEntry:
    """How much of a weight that the checkpoint has on a grid was kept, in groups.

    Attributes:
        groups: of the checkpoint's grid.
        on_grid: those of them that lie on it; the others were rounded anew.
        codes_kept: those whose codes are the checkpoint's.
        kept: those whose codes and scales are, exactly.
    """

    groups: int
    on_grid: int
    codes_kept: int
    kept: int


@dataclass(frozen=True)
class TensorEntry:
    """How one weight tensor is stored.

    Attributes:
        bits: 32 means not quantized.
        group_size: input channels that share a scale; None is the whole row.
        sqnr_db: signal to quantization noise against the checkpoint; None if not quantized.
        reason: why it stayed unquantized, or which rule chose its scheme.
        own_grid: what was kept of the grid that the checkpoint has; None where it has none, or
            where the weight was quantized anew.
    """

    name: str
    shape: tuple[int, ...]
    bits: int
    group_size: int | None
    size_bytes: int
    sqnr_db: float | None
    reason: str
    own_grid: OwnGridEntry | None = None


@dataclass(frozen=True)
class RecipeRule:
    """What the recipe says of the weights whose names match; the first rule that matches decides.

    Attributes:
        pattern: of names, as `fnmatch` reads it: "layers.*.mlp.*".
        bits: 32 keeps float32.
        group_size: input channels that share a scale; None is the whole row.
        method: how codes and scales were chosen; None where nothing was, or nothing recorded it.
        zero_points: whether each scale has a zero point.
        scale_dtype: the shortest type that holds the scales.
    """

    pattern: str
    bits: int
    group_size: int | None
    reason: str
    method: str | None = None
    zero_points: bool = False
    scale_dtype: Literal["bfloat16", "float32"] = "bfloat16"


@dataclass(frozen=True)
class BackendEntry:
    """One backend's artifact.

    Attributes:
        model: path of the artifact that the runtime opens.
        activation_quantization: what the runtime's kernels do to activations before int8 products.
        runtime_floor: least version by distribution name, derived from the operators used.
        caches: one entry a layer that has keys and values of its own.
        rewind_tokens: how far a session may always go back; None is any distance.
        logits_size: width of a row of logits; columns beyond the vocabulary are padding.
        logits_rows: a call of at most so many tokens gives logits after each of them, a longer one
            after its last two or its last. 1 in bundles that are older.
        golden: path of the recorded answers for this backend's arithmetic.
        components: what of the artifact runtimes call, the decoder among them.
        options: backend-specific, by name; informational but for the backend's own engine.
        attention_quantization: which operands of attention the runtime rounds to int8, keys after
            rotation: keys and values with constant scales, or those, or queries too, per token;
            only in layers whose caches have such codes.
        kv_measured: what `--kv auto` chose among; empty where the builder named a precision.
    """

    model: str
    activation_quantization: ActivationQuantization
    runtime_floor: Mapping[str, str]
    caches: tuple[CacheEntry, ...]
    rewind_tokens: int | None
    logits_size: int
    golden: str
    components: tuple[Component, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    attention_quantization: AttentionQuantization = "none"
    kv_measured: tuple[KvMeasured, ...] = ()
    logits_rows: int = 1

    @property
    def decoder(self) -> Component:
        return next(part for part in self.components if part.name == DECODER)

    @property
    def kv_cache_bytes(self) -> int:
        return sum(cache.size_bytes for cache in self.caches)

    @property
    def kv_scale_bytes(self) -> int:
        """Bytes of the caches' constant scales, which are part of the artifact."""
        return sum(cache.scale_bytes for cache in self.caches)


@dataclass(frozen=True)
class Manifest:
    """Everything that a runtime needs to know of a bundle.

    Attributes:
        model: the ModelConfig in plain JSON, `layers` included.
        context_length: positions that the caches hold.
        prefill_chunk: most tokens in one call of the artifact.
        bos_id: prepended to raw prompts; None if the model has none.
        stop_ids: generation ends at any of these.
        build: tool versions, the checkpoint's digest, and its hub id and commit where it has them,
            for people.
        recipe_rules: of the recipe, as they were at the build; empty in bundles that are older.
        readings: what each stock runtime installed at the build made of edge-case texts.
    """

    name: str
    model: Mapping[str, Any]
    context_length: int
    prefill_chunk: int
    recipe: str
    bos_id: int | None
    stop_ids: tuple[int, ...]
    tensors: tuple[TensorEntry, ...]
    backends: Mapping[str, BackendEntry]
    files: tuple[FileEntry, ...]
    notes: tuple[str, ...]
    build: Mapping[str, str]
    readings: Readings = field(default_factory=dict)
    recipe_rules: tuple[RecipeRule, ...] = ()
    format_version: int = FORMAT_VERSION

    @property
    def vocab_size(self) -> int:
        """Rows of logits: token ids are 0 to this, exclusive."""
        return int(self.model["vocab_size"])

    def to_json(self) -> str:
        """Return the text of manifest.json: sorted keys, so equal manifests are equal bytes."""
        document = asdict(self)
        for name, backend in self.backends.items():
            document["backends"][name]["kv_cache_bytes"] = backend.kv_cache_bytes
            document["backends"][name]["kv_scale_bytes"] = backend.kv_scale_bytes
        document[_DIGEST_KEY] = _digest(document)
        return _canonical(document)

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read the text of manifest.json strictly.

        Keys that this version does not know are left out, so that a format may gain fields. What
        was written in format 1 is upgraded: a manifest in memory has the newest format.

        Raises:
            RunError: another format version, a missing or wrong field, a path that leaves the
                bundle, or a text that was changed after the build.
        """
        from pocketlm.runtime_py.manifest_checks import check_manifest  # it checks what stands here

        try:
            document = load_object(text)
            _check_version(document)
            is_older = document["format_version"] < FORMAT_VERSION
            manifest = read_as(cls, upgrade_format_1(document) if is_older else document)
            check_manifest(manifest)
        except FieldError as error:
            raise RunError(
                f"{MANIFEST_NAME}: {error}; build the bundle again or copy it again"
            ) from error
        _check_digest(document)
        return manifest


def _check_version(document: Mapping[str, Any]) -> None:
    if "format_version" not in document:
        raise FieldError("format_version is missing")
    found = document["format_version"]
    if type(found) is not int or found < 1:
        raise FieldError(f"format_version: expected an integer above zero, found {found!r}")
    if found > FORMAT_VERSION:
        raise RunError(
            f"{MANIFEST_NAME}: the bundle has format version {found}, this pocketlm reads up to "
            f"{FORMAT_VERSION}; update pocketlm, or build the bundle with this version"
        )


def _check_digest(document: dict[str, Any]) -> None:
    found = document.pop(_DIGEST_KEY, None)
    expected = _digest(document)
    if found != expected:
        raise RunError(
            f"{MANIFEST_NAME} was changed after the build: {_DIGEST_KEY} is {found!r}, its "
            f"content has {expected!r}; build the bundle again or copy it again"
        )


def _canonical(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(document).encode()).hexdigest()
