"""What types cannot say of a manifest: ranges, and values that must agree. Checked on reading.

Whatever reads a manifest afterwards may divide, index and add without a look.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pocketlm.runtime_py import caches
from pocketlm.runtime_py.components import DECODER
from pocketlm.runtime_py.kv_choice import KvMeasured
from pocketlm.runtime_py.manifest import (
    DTYPE_BYTES,
    AttentionQuantization,
    BackendEntry,
    CacheEntry,
    CacheQuantization,
    Manifest,
    OwnGridEntry,
    RecipeRule,
    TensorEntry,
)
from pocketlm.runtime_py.model_entry import LayerEntry, ModelEntry, read_model
from pocketlm.runtime_py.typed_json import FieldError

# Positions, ids and sizes of one axis are int32 in every runtime; bytes are exact as a float64.
_LARGEST_SIZE, _MOST_BYTES = 2**31 - 1, 2**53
_TABLE = "embed_tokens"
_STORED_AS: Mapping[AttentionQuantization, CacheQuantization] = {
    "none": "none",
    "kv_per_channel": "per_channel",
    "kv_per_token": "per_token",
    "qkv_per_token": "per_token",
}


def check_manifest(manifest: Manifest) -> None:
    """Check everything but the digest.

    Raises:
        FieldError: a value is out of range or contradicts another, or a path leaves the bundle.
    """
    cache_count = _check_model(manifest.model)
    _check_range("context_length", manifest.context_length, 1)
    if not 1 <= manifest.prefill_chunk <= manifest.context_length:
        raise FieldError(
            f"prefill_chunk: {manifest.prefill_chunk} is not between 1 and "
            f"context_length={manifest.context_length}"
        )
    ids = (*manifest.stop_ids, *(() if manifest.bos_id is None else (manifest.bos_id,)))
    for token in ids:
        _check_range("stop_ids and bos_id", token, 0, manifest.vocab_size - 1)
    _check_tensors(manifest.tensors)
    _check_rules(manifest.recipe_rules)
    listed = [entry.path for entry in manifest.files]
    for i, entry in enumerate(manifest.files):
        check_relative_path(entry.path, f"files[{i}].path")
        _check_range(f"files[{i}].size_bytes", entry.size_bytes, 0, _MOST_BYTES)
    if len(set(listed)) < len(listed):
        twice = next(path for path in listed if listed.count(path) > 1)
        raise FieldError(f"files: {twice!r} is listed twice")
    for name, backend in manifest.backends.items():
        for role, path in (("model", backend.model), ("golden", backend.golden)):
            check_relative_path(path, f"backends.{name}.{role}")
            if path not in listed:
                raise FieldError(f"backends.{name}.{role}: {path!r} is not among the files")
        _check_backend(f"backends.{name}", backend, manifest, cache_count)
        _check_components(f"backends.{name}.components", backend, listed)


def _check_model(document: Mapping[str, Any]) -> int:
    """Return the number of caches."""
    try:
        model = read_model(document)
        _check_sizes(model, "")
        for index, layer in enumerate(model.layers):
            _check_layer(layer, f"layers[{index}].", model.layers[:index])
    except FieldError as error:
        raise FieldError(f"model.{error}") from error
    if not model.layers:
        raise FieldError("model.layers: there are none")
    return sum(layer.kv_from is None for layer in model.layers)


def _check_layer(layer: LayerEntry, field: str, earlier: Sequence[LayerEntry]) -> None:
    if layer.kv_from is not None:
        _check_range(f"{field}kv_from", layer.kv_from, 0, len(earlier) - 1)
        if earlier[layer.kv_from].kv_from is not None:
            raise FieldError(
                f"{field}kv_from: layer {layer.kv_from} has no keys and values of its own"
            )
    _check_sizes(replace(layer, kv_from=None), field)
    if layer.num_attention_heads % layer.num_key_value_heads:
        raise FieldError(
            f"{field}num_attention_heads: {layer.num_attention_heads} is no multiple of "
            f"num_key_value_heads={layer.num_key_value_heads}"
        )


def _check_sizes(values: ModelEntry | LayerEntry, field: str) -> None:
    for name, value in vars(values).items():
        if isinstance(value, int):
            _check_range(f"{field}{name}", value, 1)


def _check_tensors(tensors: tuple[TensorEntry, ...]) -> None:
    names = [tensor.name for tensor in tensors]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise FieldError(f"tensors: {twice!r} is listed twice")
    tables = [tensor for tensor in tensors if tensor.name == _TABLE and len(tensor.shape) == 2]
    if not tables:
        raise FieldError(f"tensors: no {_TABLE} with rows and columns is listed")
    for i, tensor in enumerate(tensors):
        field = f"tensors[{i}]"
        if len(tensor.shape) not in (1, 2):
            raise FieldError(f"{field}.shape: {list(tensor.shape)} has not one or two axes")
        for size in tensor.shape:
            _check_range(f"{field}.shape", size, 1)
        _check_scheme(field, tensor.bits, tensor.group_size)
        _check_range(f"{field}.size_bytes", tensor.size_bytes, 0, _MOST_BYTES)
        if tensor.own_grid is not None:
            _check_own_grid(f"{field}.own_grid", tensor.own_grid)


def _check_own_grid(field: str, own: OwnGridEntry) -> None:
    most = _MOST_BYTES
    for name in ("groups", "on_grid", "codes_kept", "kept"):
        value: int = vars(own)[name]
        _check_range(f"{field}.{name}", value, 1 if name == "groups" else 0, most)
        most = value


def _check_rules(rules: tuple[RecipeRule, ...]) -> None:
    for i, rule in enumerate(rules):
        _check_scheme(f"recipe_rules[{i}]", rule.bits, rule.group_size)


def _check_scheme(field: str, bits: int, group_size: int | None) -> None:
    if bits not in (4, 8, 32):
        raise FieldError(f"{field}.bits: {bits} is none of 4, 8, 32")
    if group_size is not None:
        _check_range(f"{field}.group_size", group_size, 1)


def _check_backend(field: str, entry: BackendEntry, manifest: Manifest, cache_count: int) -> None:
    if len(entry.caches) != cache_count:
        raise FieldError(
            f"{field}.caches: {len(entry.caches)} for {cache_count} layers; each layer has one, "
            "but for those that read another's"
        )
    for i, cache in enumerate(entry.caches):
        _check_cache(cache, f"{field}.caches[{i}]", manifest.context_length)
    _check_attention(entry, f"{field}.attention_quantization")
    _check_kv_measured(entry.kv_measured, f"{field}.kv_measured")
    _check_range(f"{field}.logits_size", entry.logits_size, manifest.vocab_size)
    _check_range(f"{field}.logits_rows", entry.logits_rows, 1, manifest.prefill_chunk)
    if entry.rewind_tokens is not None:
        _check_range(f"{field}.rewind_tokens", entry.rewind_tokens, 0)


def _check_components(field: str, entry: BackendEntry, listed: list[str]) -> None:
    names = [component.name for component in entry.components]
    if names.count(DECODER) != 1 or len(set(names)) < len(names):
        raise FieldError(
            f"{field}: found {', '.join(map(repr, names)) or 'none'}; each has a name of its own, "
            f"and one is {DECODER!r}"
        )
    for i, component in enumerate(entry.components):
        if component.file not in listed:
            raise FieldError(f"{field}[{i}].file: {component.file!r} is not among the files")
        if component.planned_bytes is not None:
            _check_range(f"{field}[{i}].planned_bytes", component.planned_bytes, 0, _MOST_BYTES)
    held = sorted(cache for component in entry.components for cache in component.caches)
    if held != list(range(len(entry.caches))):
        raise FieldError(
            f"{field}: they hold the caches {held}; expected each of the {len(entry.caches)} once"
        )


def _check_cache(cache: CacheEntry, field: str, context_length: int) -> None:
    if cache.kind not in caches.names():
        known = ", ".join(caches.names())
        raise FieldError(f"{field}.kind: expected one of {known}, found {cache.kind!r}")
    if cache.dtype not in DTYPE_BYTES:
        known = ", ".join(DTYPE_BYTES)
        raise FieldError(f"{field}.dtype: {cache.dtype!r} is unknown; known: {known}")
    if (cache.quantization == "none") != (cache.dtype == "float32"):
        raise FieldError(
            f"{field}.quantization: {cache.quantization!r} contradicts dtype {cache.dtype!r}; "
            "int8 codes have scales per_channel or per_token, float32 has none"
        )
    _check_range(f"{field}.capacity", cache.capacity, 1, context_length)
    _check_range(f"{field}.num_key_value_heads", cache.num_key_value_heads, 1)
    _check_range(f"{field}.head_dim", cache.head_dim, 1)
    if cache.window is not None:
        _check_range(f"{field}.window", cache.window, 1)
    if cache.layout.overwrites and (cache.window or cache.capacity + 1) > cache.capacity:
        raise FieldError(
            f"{field}.window: {cache.window} in a cache of kind {cache.kind!r} with "
            f"{cache.capacity} slots, which overwrites the others; expected 1 to {cache.capacity}"
        )


def _check_attention(entry: BackendEntry, field: str) -> None:
    expected = _STORED_AS[entry.attention_quantization]
    # Layers of one kind may be kept in float32 beside others in int8.
    found = [cache.quantization for cache in entry.caches]
    others = [i for i, one in enumerate(found) if one not in (expected, "none")]
    if others or expected not in found:
        i = others[0] if others else 0
        raise FieldError(
            f"{field}: {entry.attention_quantization!r} contradicts the quantization "
            f"{found[i]!r} of caches[{i}]; expected {expected!r} there"
        )


def _check_kv_measured(tried: tuple[KvMeasured, ...], field: str) -> None:
    names = [one.kv for one in tried]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise FieldError(f"{field}: {twice!r} is listed twice")
    for i, one in enumerate(tried):
        if not one.kl_nats >= 0:
            raise FieldError(f"{field}[{i}].kl_nats: {one.kl_nats} is below zero")
        _check_range(f"{field}[{i}].size_bytes", one.size_bytes, 0, _MOST_BYTES)


def _check_range(field: str, value: int, least: int, most: int = _LARGEST_SIZE) -> None:
    if not least <= value <= most:
        raise FieldError(f"{field}: {value} is not between {least} and {most}")


def check_relative_path(path: str, field_name: str) -> None:
    """Refuse a path that could name anything outside the bundle on any system.

    Raises:
        FieldError: absolute, with a drive, a backslash or "..", or not in its shortest form.
    """
    parts = path.split("/")
    leaves = any(part in ("", ".", "..") for part in parts) or any(c in path for c in "\\:")
    if leaves or not path.isprintable():
        raise FieldError(
            f"{field_name}: {path!r} leaves the bundle (paths are relative, with forward slashes "
            "and without '..', drives and backslashes)"
        )
