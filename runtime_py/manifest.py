"""The bundle contract on disk: what manifest.json says. Knows nothing of building or running.

The reader owns the format: builders fill these values in, every runtime reads them.
`docs/bundle-format.md` describes each field.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from runtime_py.errors import RunError
from runtime_py.readings import Readings
from runtime_py.typed_json import FieldError, load_object, read_as

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
_DIGEST_KEY = "manifest_sha256"

CacheKind = Literal["ring", "windowed", "linear"]
ActivationQuantization = Literal["none", "per_token_asymmetric", "per_block_symmetric"]
CacheQuantization = Literal["none", "per_channel", "per_token"]
AttentionQuantization = Literal["none", "kv_per_channel", "kv_per_token", "qkv_per_token"]

DTYPE_BYTES: Mapping[str, int] = {"float32": 4, "int8": 1}
_STORED_AS: Mapping[AttentionQuantization, CacheQuantization] = {
    "none": "none",
    "kv_per_channel": "per_channel",
    "kv_per_token": "per_token",
    "qkv_per_token": "per_token",
}
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
        kind: "linear" keeps every position; "ring" overwrites slot position mod capacity;
            "windowed" keeps the newest rows contiguous and evicts inside the runtime's kernel.
        capacity: slots.
        window: keys that a query sees, itself included; None sees all.
        dtype: of what a slot holds, "float32" or "int8" codes.
        quantization: where the scales of int8 codes are. "per_channel" is one constant scale for
            each head's channels, in the artifact; "per_token" is a float32 scale and an int8 zero
            point beside each head's codes, in the cache.
    """

    kind: CacheKind
    capacity: int
    window: int | None
    num_key_value_heads: int
    head_dim: int
    dtype: str = "float32"
    quantization: CacheQuantization = "none"

    @property
    def size_bytes(self) -> int:
        """Bytes of keys and values together, with the scales that are kept in slots."""
        head_bytes = self.head_dim * DTYPE_BYTES[self.dtype]
        if self.quantization == "per_token":
            head_bytes += _TOKEN_SCALE_BYTES
        return 2 * self.capacity * self.num_key_value_heads * head_bytes

    @property
    def scale_bytes(self) -> int:
        """Bytes of the constant scales in the artifact: they do not grow with the slots."""
        if self.quantization != "per_channel":
            return 0
        return 2 * self.num_key_value_heads * self.head_dim * _CONSTANT_SCALE_BYTES


@dataclass(frozen=True)
class TensorEntry:
    """How one weight tensor is stored.

    Attributes:
        bits: 32 means not quantized.
        group_size: input channels that share a scale; None is the whole row.
        sqnr_db: signal to quantization noise against the checkpoint; None if not quantized.
        reason: why it stayed unquantized, or which rule chose its scheme.
    """

    name: str
    shape: tuple[int, ...]
    bits: int
    group_size: int | None
    size_bytes: int
    sqnr_db: float | None
    reason: str


@dataclass(frozen=True)
class MemoryLine:
    """One line of the memory plan.

    Attributes:
        part: what the bytes hold.
        kind: "mapped" file pages, or "anonymous" memory.
    """

    part: str
    kind: Literal["mapped", "anonymous"]
    size_bytes: int


@dataclass(frozen=True)
class BackendEntry:
    """One backend's artifact.

    Attributes:
        model: path of the artifact that the runtime opens.
        activation_quantization: what the runtime's kernels do to activations before int8 products.
        runtime_floor: least version by distribution name, derived from the operators used.
        caches: one entry a layer.
        rewind_tokens: how far a session may always go back; None is any distance.
        logits_size: width of the logits row; columns beyond the vocabulary are padding.
        golden: path of the recorded answers for this backend's arithmetic.
        options: backend-specific, by name; informational but for the backend's own engine.
        attention_quantization: which operands of attention the runtime rounds to int8, keys after
            rotation: keys and values with constant scales, or those, or queries too, per token.
    """

    model: str
    activation_quantization: ActivationQuantization
    runtime_floor: Mapping[str, str]
    caches: tuple[CacheEntry, ...]
    rewind_tokens: int | None
    logits_size: int
    golden: str
    memory_plan: tuple[MemoryLine, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    attention_quantization: AttentionQuantization = "none"

    @property
    def kv_cache_bytes(self) -> int:
        return sum(cache.size_bytes for cache in self.caches)

    @property
    def anonymous_bytes(self) -> int:
        """Bytes of the memory plan that no file backs."""
        return sum(line.size_bytes for line in self.memory_plan if line.kind == "anonymous")

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
        build: tool versions and the checkpoint's digest, for people.
        readings: what each stock runtime installed at the build made of hard texts.
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

        Keys that this version does not know are left out, so that a format may gain fields.

        Raises:
            RunError: another format version, a missing or wrong field, a path that leaves the
                bundle, or a text that was changed after the build.
        """
        try:
            document = load_object(text)
            _check_version(document)
            manifest = read_as(cls, document)
            check_manifest(manifest)
        except FieldError as error:
            raise RunError(
                f"{MANIFEST_NAME}: {error}; build the bundle again or copy it again"
            ) from error
        _check_digest(document)
        return manifest


def check_manifest(manifest: Manifest) -> None:
    """Check what types cannot say.

    Raises:
        FieldError: a value contradicts another, or a path leaves the bundle.
    """
    vocab_size = manifest.model.get("vocab_size")
    if type(vocab_size) is not int or vocab_size < 1:
        raise FieldError(f"model.vocab_size: expected an integer above zero, found {vocab_size!r}")
    if not 1 <= manifest.prefill_chunk <= manifest.context_length:
        raise FieldError(
            f"prefill_chunk: {manifest.prefill_chunk} is not between 1 and "
            f"context_length={manifest.context_length}"
        )
    listed = [entry.path for entry in manifest.files]
    for i, path in enumerate(listed):
        check_relative_path(path, f"files[{i}].path")
    if len(set(listed)) < len(listed):
        twice = next(path for path in listed if listed.count(path) > 1)
        raise FieldError(f"files: {twice!r} is listed twice")
    for name, entry in manifest.backends.items():
        for role, path in (("model", entry.model), ("golden", entry.golden)):
            check_relative_path(path, f"backends.{name}.{role}")
            if path not in listed:
                raise FieldError(f"backends.{name}.{role}: {path!r} is not among the files")
        for i, cache in enumerate(entry.caches):
            _check_cache(cache, f"backends.{name}.caches[{i}]")
        _check_attention(entry, f"backends.{name}.attention_quantization")


def _check_cache(cache: CacheEntry, place: str) -> None:
    if cache.dtype not in DTYPE_BYTES:
        known = ", ".join(DTYPE_BYTES)
        raise FieldError(f"{place}.dtype: {cache.dtype!r} is unknown; known: {known}")
    if (cache.quantization == "none") != (cache.dtype == "float32"):
        raise FieldError(
            f"{place}.quantization: {cache.quantization!r} contradicts dtype {cache.dtype!r}; "
            "int8 codes have scales per_channel or per_token, float32 has none"
        )


def _check_attention(entry: BackendEntry, place: str) -> None:
    expected = _STORED_AS[entry.attention_quantization]
    for i, cache in enumerate(entry.caches):
        if cache.quantization != expected:
            raise FieldError(
                f"{place}: {entry.attention_quantization!r} contradicts the quantization "
                f"{cache.quantization!r} of caches[{i}]; expected {expected!r} there"
            )


def check_relative_path(path: str, field_name: str) -> None:
    """Refuse a path that could name anything outside the bundle on any system.

    Raises:
        FieldError: absolute, with a drive, a backslash or "..", or not in its shortest form.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or any(c in path for c in "\\:\0"):
        raise FieldError(
            f"{field_name}: {path!r} leaves the bundle (paths are relative, with forward slashes "
            "and without '..', drives and backslashes)"
        )


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
