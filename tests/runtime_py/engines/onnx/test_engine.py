"""The ONNX Runtime engine: in-place caches, going back, and artifacts that cannot be loaded."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import psutil
import pytest

from pocketlm.runtime_py import caches, engines
from pocketlm.runtime_py.engines.onnx.engine import OnnxModel, with_float_products
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.kv_choice import KvName
from pocketlm.runtime_py.manifest import CacheEntry
from tests.artifacts import (
    CHUNK,
    CONTEXT,
    Build,
    Lowered,
    logits_after,
    lowered_onnx,
    random_tokens,
)
from tests.conftest import WINDOW

SLOTS = WINDOW + CHUNK - 1
LOCAL = ("windowed", "ring")
KV: tuple[KvName, ...] = ("float32", "int8")


@cache
def continued(build: Build, target: int) -> np.ndarray:
    """Return the logits of other tokens after the first `target`, from a fresh model."""
    tokens = [*random_tokens(CONTEXT)[:target], 9, 8, 7]
    return logits_after(lowered_onnx(build).load(), tokens, [1] * (target + 3))[target:]


@pytest.mark.parametrize("kv", KV)
@pytest.mark.parametrize("local_cache", LOCAL)
def test_caches_are_written_in_place(local_cache: str, kv: KvName) -> None:
    model = lowered_onnx(Build("gemma3_text", local_cache=local_cache, kv=kv)).load()
    assert isinstance(model, OnnxModel)
    assert {buffer.dtype.name for buffer in model._caches} == {kv}
    before = [buffer.ctypes.data for buffer in model._caches]
    assert not any(buffer.any() for buffer in model._caches)
    model.run([5, 6, 7], 0)
    # A code may be 0, a whole row of them is not.
    assert all(buffer[:, :, :3].any(-1).all() for buffer in model._caches)
    assert [buffer.ctypes.data for buffer in model._caches] == before


def test_logits_belong_to_the_caller() -> None:
    model = lowered_onnx(Build("gemma3_text")).load()
    first = model.run([5], 0)
    kept = first.copy()
    model.run([6], 1)
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("kv", KV)
@pytest.mark.parametrize("local_cache", LOCAL)
def test_after_reset_nothing_of_before_is_seen(local_cache: str, kv: KvName) -> None:
    model = lowered_onnx(Build("gemma3_text", local_cache=local_cache, kv=kv)).load()
    tokens = random_tokens(30)
    fresh = logits_after(model, tokens[:4], [4])
    logits_after(model, tokens, [5] * 6)
    model.reset()
    assert np.array_equal(logits_after(model, tokens[:4], [4]), fresh)


@pytest.mark.parametrize("kv", KV)
@pytest.mark.parametrize("local_cache", LOCAL)
def test_every_rewind_that_is_allowed_is_right(local_cache: str, kv: KvName) -> None:
    build = Build("gemma3_text", local_cache=local_cache, kv=kv)
    built = lowered_onnx(build)
    tokens = random_tokens(CONTEXT)
    allowed = 0
    model = built.load()
    layouts = [cache.layout for cache in built.entry.caches]
    for length in range(SLOTS - 1, 3 * SLOTS):
        for target in range(max(0, length - SLOTS), length):
            if caches.rewind_error(layouts, length, target) is not None:
                continue
            allowed += 1
            if length % 3:  # enough of them
                continue
            logits_after(model, tokens[:length], [1] * length)
            again = np.concatenate([model.run([t], target + i) for i, t in enumerate((9, 8, 7))])
            expected = continued(build, target)
            # The same rows in the same order: only a ring's slots are elsewhere.
            assert np.abs(again - expected).max() < 1e-5 * expected.std(), (length, target)
    assert allowed > SLOTS


def test_a_windowed_cache_holds_the_positions_that_its_kind_says() -> None:
    model = lowered_onnx(Build("gemma3_text")).load()
    assert isinstance(model, OnnxModel)
    layout = model.entry.caches[0].layout
    seen: list[np.ndarray] = []
    for position, token in enumerate(random_tokens(3 * SLOTS)):
        model.run([token], position)
        values = model._caches[1][0, 0]
        seen.append(values[layout.slot_of(position, position)].copy())
        for held in layout.held(position + 1):
            assert np.array_equal(values[layout.slot_of(held, position)], seen[held])


def test_manifest_options_reach_the_session() -> None:
    built = lowered_onnx(Build("gemma3_text"))
    model = built.load()
    assert isinstance(model, OnnxModel)
    name = "optimization.constant_folding_max_output_size_in_bytes"
    assert model._session.get_session_options().get_session_config_entry(name) == "1048576"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists mappings")
@pytest.mark.parametrize("asked", ["unfused", None])
def test_the_bundle_chooses_the_attention_kernel(
    asked: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "ORT_GQA_DISABLE_FLASH_ATTENTION"
    monkeypatch.delenv(name, raising=False)
    seen = []
    make = onnxruntime.InferenceSession

    def watched(*arguments: Any, **options: Any) -> Any:
        seen.append(os.environ.get(name))
        return make(*arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    built = lowered_onnx(Build("gemma3_text"))
    assert built.entry.options["attention"] == "unfused"
    kept = {key: value for key, value in built.entry.options.items() if key != "attention"}
    chosen = {**kept, "attention": asked} if asked else kept
    entry = replace(built.entry, options=chosen)
    engines.load("onnx").load(built.folder, built.manifest, entry, 1).close()
    assert seen == ["1" if asked else None]
    assert name not in os.environ


def test_nothing_is_written_about_the_machine(pico_bundle: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pocketlm.runtime_py import open_session\n"
        "open_session(sys.argv[1], backend='onnx').prefill([5])\n"
    )
    homes = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    kept = {name: text for name, text in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", script, pico_bundle], env={**kept, **homes}, check=True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_weights_file_is_not_resident_after_loading() -> None:
    built = lowered_onnx(Build("gemma3_text", "int4-g32"))
    data = str((built.folder / f"{built.artifact.model}.data").resolve())
    model = built.load()
    mapped = [one.rss for one in psutil.Process().memory_maps() if one.path == data]
    assert mapped == [0]
    # What is still read from the file, comes back.
    assert np.isfinite(model.run([5, 6, 7], 0)).all()


def copied(built: Lowered, folder: Path) -> Path:
    return Path(shutil.copytree(built.folder, folder / "bundle"))


def load(built: Lowered, folder: Path) -> None:
    engines.load("onnx").load(folder, built.manifest, built.entry, 1)


def test_corrupt_model_is_a_clear_error(tmp_path: Path) -> None:
    built = lowered_onnx(Build("gemma3_text"))
    folder = copied(built, tmp_path)
    (folder / built.artifact.model).write_bytes(b"not a model")
    with pytest.raises(RunError, match=r"model\.onnx: ONNX Runtime .* cannot load it"):
        load(built, folder)


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_damaged_weights_are_a_clear_error(tmp_path: Path, damage: str) -> None:
    built = lowered_onnx(Build("gemma3_text"))
    folder = copied(built, tmp_path)
    data = folder / f"{built.artifact.model}.data"
    if damage == "missing":
        data.unlink()
    else:
        data.write_bytes(data.read_bytes()[:5000])
    with pytest.raises(RunError, match="cannot load it"):
        load(built, folder)


def test_caches_that_differ_from_the_manifest_are_a_clear_error() -> None:
    built = lowered_onnx(Build("gemma3_text", local_cache="ring"))
    wrong = tuple(
        replace(cache, capacity=cache.capacity + 1) if cache.layout.overwrites else cache
        for cache in built.artifact.caches
    )
    entry = replace(built.entry, caches=wrong)
    message = rf"past_key_values\.0\.key should be a tensor\(float\) of .*{SLOTS + 1}"
    with pytest.raises(RunError, match=message):
        engines.load("onnx").load(built.folder, built.manifest, entry, 1)


def test_caches_of_another_type_than_the_manifest_says_are_a_clear_error() -> None:
    built = lowered_onnx(Build("gemma3_text", kv="int8"))
    caches = tuple(
        replace(cache, dtype="float32", quantization="none") for cache in built.artifact.caches
    )
    entry = replace(built.entry, caches=caches, attention_quantization="none")
    with pytest.raises(RunError, match=r"a tensor\(float\) .* but is tensor\(int8\)"):
        engines.load("onnx").load(built.folder, built.manifest, entry, 1)


def test_another_input_than_the_manifest_names_is_a_clear_error() -> None:
    built = lowered_onnx(Build("qwen3"))
    decoder = built.entry.decoder
    assert decoder.signature is not None
    first, *others = decoder.signature.inputs
    signature = replace(decoder.signature, inputs=(replace(first, name="tokens"), *others))
    entry = replace(built.entry, components=(replace(decoder, signature=signature),))
    message = r"inputs\[0\] of qwen3 should be tokens: int64\[1, new\] .* is input_ids: int64\[1, "
    with pytest.raises(RunError, match=message):
        engines.load("onnx").load(built.folder, built.manifest, entry, 1)


def test_missing_layers_are_a_clear_error() -> None:
    built = lowered_onnx(Build("qwen3"))
    extra = CacheEntry("linear", CONTEXT, None, 2, 32)
    entry = replace(built.entry, caches=(*built.entry.caches, extra))
    with pytest.raises(RunError, match="missing"):
        engines.load("onnx").load(built.folder, built.manifest, entry, 1)


def test_float_products_change_one_number_of_each_quantized_layer() -> None:
    built = lowered_onnx(Build("gemma3_text", "int4-g32"))
    changed = onnx.load_from_string(with_float_products(built.model_file))
    products = [node for node in changed.graph.node if node.op_type == "MatMulNBits"]
    # The head; queries, keys and values in one, the output, gate, up and down of each layer.
    assert len(products) == 1 + 5 * built.source.config.num_layers
    for node in products:
        (level,) = (value for value in node.attribute if value.name == "accuracy_level")
        assert level.i == 1
        level.i = 4
    assert changed == onnx.load(built.model_file, load_external_data=False)


def test_another_kind_of_product_is_refused(tmp_path: Path) -> None:
    built = lowered_onnx(Build("gemma3_text", "int4-g32"))
    path = tmp_path / "model.onnx"
    path.write_bytes(built.model_file.read_bytes().replace(b"level\x18\x04", b"level\x18\x02", 1))
    with pytest.raises(RunError, match="accuracy_level other than 4"):
        with_float_products(path)
