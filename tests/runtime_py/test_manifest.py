"""The manifest as text and back: versions, digests, what other versions wrote."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketlm.runtime_py.components import DECODER, Component, Signature, TensorSignature
from pocketlm.runtime_py.manifest import (
    FORMAT_VERSION,
    BackendEntry,
    CacheEntry,
    FileEntry,
    Manifest,
    RecipeRule,
    TensorEntry,
)
from tests.manifests import error_of
from tests.older_bundles import signed

BYTES = st.integers(0, 2**53)
SIZES = st.integers(1, 2**31 - 1)
TEXTS = st.text(max_size=8)
PARTS = st.text("abcxyz019._-", min_size=1, max_size=6).filter(lambda p: p not in (".", ".."))
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)
# What attention rounds, with the dtype and the scales of its caches.
ROUNDINGS = {
    "none": ("float32", "none"),
    "kv_per_channel": ("int8", "per_channel"),
    "kv_per_token": ("int8", "per_token"),
    "qkv_per_token": ("int8", "per_token"),
}


LAYER = {
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 8,
    "intermediate_size": 16,
    "window": None,
    "rope_theta": 10_000.0,
    "rope_factor": 1.0,
}
LAYERS = 2


def caches(
    dtype: str, quantization: str, capacity: int
) -> st.SearchStrategy[tuple[CacheEntry, ...]]:
    # Who overwrites has a window, and slots for it.
    windows = [
        *((kind, st.integers(1, capacity), st.just(1)) for kind in ("ring", "windowed")),
        ("ring", st.just(capacity), st.integers(1, capacity)),
        ("linear", st.integers(1, capacity), st.none() | SIZES),
    ]
    entries = st.one_of(
        st.builds(
            CacheEntry,
            kind=st.just(kind),
            capacity=slots,
            window=window,
            num_key_value_heads=SIZES,
            head_dim=SIZES,
            dtype=st.just(dtype),
            quantization=st.just(quantization),
        )
        for kind, slots, window in windows
    )
    return st.lists(entries, min_size=LAYERS, max_size=LAYERS).map(tuple)


TABLE = TensorEntry("embed_tokens", (3, 2), 4, 2, 6, None, "")
TENSORS = st.builds(
    TensorEntry,
    name=TEXTS,
    shape=st.lists(SIZES, min_size=1, max_size=2).map(tuple),
    bits=st.sampled_from([4, 8, 32]),
    group_size=st.none() | SIZES,
    size_bytes=BYTES,
    sqnr_db=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    reason=TEXTS,
)


RULES = st.builds(
    RecipeRule,
    pattern=TEXTS,
    bits=st.sampled_from([4, 8, 32]),
    group_size=st.none() | SIZES,
    reason=TEXTS,
)


TENSOR_SIGNATURES = st.lists(
    st.builds(
        TensorSignature,
        name=st.none() | TEXTS,
        dtype=TEXTS,
        shape=st.lists(SIZES | TEXTS, max_size=3).map(tuple),
    ),
    max_size=2,
).map(tuple)


def components(files: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[Component, ...]]:
    """Return a decoder with all caches, with or without a component beside it."""

    def named(name: str, caches: tuple[int, ...]) -> st.SearchStrategy[Component]:
        return st.builds(
            Component,
            name=st.just(name),
            file=files,
            entry_point=st.none() | TEXTS,
            signature=st.none() | st.builds(Signature, TENSOR_SIGNATURES, TENSOR_SIGNATURES),
            caches=st.just(caches),
            planned_bytes=st.none() | BYTES,
        )

    alone = st.tuples(named(DECODER, tuple(range(LAYERS))))
    return alone | st.tuples(named("vision", ()), named(DECODER, tuple(range(LAYERS))))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    files = draw(
        st.lists(
            st.builds(FileEntry, path=PATHS, sha256=TEXTS, size_bytes=BYTES),
            min_size=1,
            max_size=4,
            unique_by=lambda entry: entry.path,
        )
    )
    listed = st.sampled_from([entry.path for entry in files])
    rounding = draw(st.sampled_from(sorted(ROUNDINGS)))
    chunk = draw(st.integers(1, 100))
    context_length = draw(st.integers(chunk, 10**6))
    vocab_size = draw(st.integers(1, 10**6))
    model = {
        "model_type": draw(TEXTS),
        "vocab_size": vocab_size,
        "hidden_size": draw(SIZES),
        "rms_norm_eps": 1e-6,
        "attention_softcap": None,
        "layers": [LAYER] * LAYERS,
    }
    ids = st.integers(0, vocab_size - 1)
    backends = st.builds(
        BackendEntry,
        model=listed,
        activation_quantization=st.sampled_from(["none", "per_token_asymmetric"]),
        runtime_floor=st.dictionaries(TEXTS, TEXTS, max_size=2),
        attention_quantization=st.just(rounding),
        caches=caches(*ROUNDINGS[rounding], context_length),
        rewind_tokens=st.none() | SIZES,
        logits_size=st.integers(vocab_size, 2**31 - 1),
        logits_rows=st.integers(1, chunk),
        golden=listed,
        components=components(listed),
        options=st.dictionaries(TEXTS, TEXTS, max_size=2),
    )
    return Manifest(
        name=draw(TEXTS),
        model=model,
        context_length=context_length,
        prefill_chunk=chunk,
        recipe=draw(TEXTS),
        bos_id=draw(st.none() | ids),
        stop_ids=tuple(draw(st.lists(ids, max_size=3))),
        tensors=(TABLE, *draw(st.lists(TENSORS, max_size=3, unique_by=lambda t: t.name))),
        backends=draw(st.dictionaries(TEXTS, backends, max_size=2)),
        files=tuple(files),
        notes=tuple(draw(st.lists(TEXTS, max_size=2))),
        build=draw(st.dictionaries(TEXTS, TEXTS, max_size=2)),
        recipe_rules=tuple(draw(st.lists(RULES, max_size=2))),
    )


@settings(max_examples=40)
@given(manifests())
def test_reading_what_was_written_gives_the_same_manifest(manifest: Manifest) -> None:
    text = manifest.to_json()
    assert Manifest.from_json(text) == manifest
    assert Manifest.from_json(text).to_json() == text


def test_a_manifest_without_rules_of_its_recipe_is_older_and_read(
    document: dict[str, Any], fake_bundle: Any
) -> None:
    assert [rule["pattern"] for rule in document.pop("recipe_rules")] == ["layers.*", "*"]
    assert Manifest.from_json(signed(document)).recipe_rules == ()


def test_kv_cache_bytes_are_written_beside_the_caches(document: dict[str, Any]) -> None:
    # 2 (keys and values) x 4 bytes x 4 values x (11 + 11 + 64) slots
    assert document["backends"]["onnx"]["kv_cache_bytes"] == 2 * 4 * 4 * (11 + 11 + 64)


def test_bytes_of_int8_caches_count_scales_where_they_are_kept() -> None:
    channel = CacheEntry("linear", 100, None, 2, 64, "int8", "per_channel")
    # Keys and values: 2 heads of 64 bytes a slot; the scales are float32 constants.
    assert (channel.size_bytes, channel.scale_bytes) == (2 * 100 * 2 * 64, 2 * 2 * 64 * 4)
    token = replace(channel, quantization="per_token")
    # Each head's codes with a float32 scale and an int8 zero point.
    assert (token.size_bytes, token.scale_bytes) == (2 * 100 * 2 * (64 + 4 + 1), 0)


def test_a_bundle_from_before_int8_caches_can_be_read(document: dict[str, Any]) -> None:
    for backend in document["backends"].values():
        del backend["attention_quantization"], backend["kv_scale_bytes"]
        for cache in backend["caches"]:
            del cache["quantization"]
    entry = Manifest.from_json(signed(document)).backends["onnx"]
    assert entry.attention_quantization == "none"
    assert {cache.quantization for cache in entry.caches} == {"none"}


def test_a_newer_format_says_what_to_update(document: dict[str, Any]) -> None:
    document["format_version"] = FORMAT_VERSION + 1
    # Even where nothing else is as this version expects it.
    del document["stop_ids"]
    message = error_of(document)
    assert f"format version {FORMAT_VERSION + 1}" in message
    assert f"reads up to {FORMAT_VERSION}" in message
    assert "update pocketlm" in message


@pytest.mark.parametrize("version", [0, "1", None, True])
def test_a_format_version_that_never_was_is_refused(
    document: dict[str, Any], version: object
) -> None:
    document["format_version"] = version
    assert f"format_version: expected an integer above zero, found {version!r}" in error_of(
        document
    )


def test_a_change_after_the_build_is_noticed(document: dict[str, Any]) -> None:
    document["stop_ids"] = []
    message = error_of(document)
    assert "manifest.json was changed after the build" in message
    assert document["manifest_sha256"] in message


def test_a_manifest_without_its_own_digest_is_refused(document: dict[str, Any]) -> None:
    del document["manifest_sha256"]
    assert "manifest_sha256 is None" in error_of(document)


def test_keys_of_a_later_writer_are_tolerated(fake_bundle: Any) -> None:
    manifest = fake_bundle.manifest()
    document = json.loads(manifest.to_json())
    document["files"][0]["mirror"] = "somewhere"
    document["backends"]["onnx"]["flavour"] = 3
    # The later writer signs what it wrote.
    assert Manifest.from_json(signed(document)) == manifest
