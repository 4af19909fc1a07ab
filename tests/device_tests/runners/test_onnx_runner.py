"""The native ONNX runner on this machine: the same runtime, so the same bits as from Python."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketlm.runtime_py import open_bundle, open_session
from pocketlm.runtime_py.kv_choice import KV_PRECISIONS, KvPrecision
from tests.artifacts import CONTEXT, Build, Lowered, logits_after, lowered_onnx, random_tokens
from tests.device_tests.runners.runs import (
    bundle_of,
    check_golden,
    feed,
    golden_of,
    golden_script,
    run,
)
from tests.older_bundles import in_format_1
from tests.parity_cases import ONNX_KINDS, SPLITS

UNEVEN = SPLITS["uneven"]


@pytest.fixture
def damaged(pico_bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function: what changes the backend's entry → a copy of the bundle."""

    def make(change: Callable[[dict[str, Any]], object]) -> Path:
        copy = tmp_path / "bundle"
        copy.mkdir()
        (copy / "onnx").symlink_to(pico_bundle / "onnx")
        document = json.loads((pico_bundle / "manifest.json").read_text())
        change(document["backends"]["onnx"])
        (copy / "manifest.json").write_text(json.dumps(document))
        return copy

    return make


@pytest.mark.parametrize("kv", KV_PRECISIONS)
@pytest.mark.parametrize(("family", "local_cache"), ONNX_KINDS)
def test_logits_are_those_of_the_python_engine(
    onnx_runner: Path, tmp_path: Path, family: str, local_cache: str, kv: KvPrecision
) -> None:
    check_same(onnx_runner, lowered_onnx(Build(family, "none", local_cache, kv=kv)), tmp_path)


def test_logits_over_quantized_weights_are_those_of_the_python_engine(
    onnx_runner: Path, tmp_path: Path
) -> None:
    check_same(onnx_runner, lowered_onnx(Build("gemma3_text", "int4-g32")), tmp_path)


def check_same(runner: Path, built: Lowered, folder: Path) -> None:
    tokens = random_tokens(CONTEXT)
    expected = logits_after(built.load(), tokens, UNEVEN)
    script = [*feed(tokens, UNEVEN), "reset", *feed(tokens, UNEVEN)]
    status, events, logits = run(runner, bundle_of(built), script, folder)
    assert status == 0, events[-1]
    found = np.fromfile(logits, np.float32).reshape(2, *expected.shape)
    np.testing.assert_array_equal(found[0], expected)
    # A reset leaves nothing behind.
    np.testing.assert_array_equal(found[1], expected)


def test_golden_answers_of_a_bundle(onnx_runner: Path, pico_bundle: Path, tmp_path: Path) -> None:
    golden = golden_of(pico_bundle, "onnx")
    status, events, logits = run(onnx_runner, pico_bundle, golden_script(golden), tmp_path)
    assert status == 0, events[-1]
    vocab_size = open_bundle(pico_bundle).manifest.vocab_size
    check_golden(golden, np.fromfile(logits, np.float32).reshape(-1, vocab_size))


def test_a_bundle_of_format_1_runs(onnx_runner: Path, pico_bundle: Path, tmp_path: Path) -> None:
    older = in_format_1(pico_bundle, tmp_path / "older")
    status, events, _ = run(onnx_runner, older, ["feed 1 2 3"], tmp_path)
    assert status == 0, events[-1]


def test_decode_feeds_the_greedy_choice_back(
    onnx_runner: Path, pico_bundle: Path, tmp_path: Path
) -> None:
    status, events, _ = run(onnx_runner, pico_bundle, ["feed 5 6 7", "decode 8"], tmp_path)
    assert status == 0, events[-1]
    chosen = [event["greedy_id"] for event in events if event["event"] == "run"]
    with open_session(pico_bundle, backend="onnx", threads=1) as session:
        rows = [session.prefill([5, 6, 7])]
        rows += [session.decode(token) for token in chosen[:-1]]
        assert chosen == [int(row.argmax()) for row in rows]


def test_a_logit_that_is_no_number_is_reported_and_not_chosen(
    onnx_runner: Path, pico_bundle: Path, tmp_path: Path
) -> None:
    """Each float of the weights file becomes NaN; with four bits its codes stay codes."""
    broken = tmp_path / "broken"
    shutil.copytree(pico_bundle, broken)
    data = broken / "onnx" / "model.onnx.data"
    data.write_bytes(b"\xff" * data.stat().st_size)
    status, events, _ = run(onnx_runner, broken, ["feed 5 6 7", "decode 2"], tmp_path)
    assert status == 3
    assert "is NaN after 3 tokens, so there is no greedy choice" in events[-1]["reason"]
    # A row that is kept says so itself, and the run goes on to the next.
    status, events, _ = run(onnx_runner, broken, ["feed+ 5 6 7", "feed+ 8"], tmp_path)
    assert status == 0
    assert [event["finite"] for event in events if event["event"] == "run"] == [False, False]


def test_phases_tell_where_memory_is(onnx_runner: Path, pico_bundle: Path, tmp_path: Path) -> None:
    script = ["feed 5", "phase one", "decode 40", "phase many"]
    status, events, _ = run(onnx_runner, pico_bundle, script, tmp_path)
    assert status == 0, events[-1]
    phases = {event["phase"]: event for event in events if event["event"] == "phase"}
    paths = {Path(mapping["path"]).name for mapping in phases["one"]["mappings"]}
    assert any(name.startswith("libonnxruntime.so") for name in paths)
    assert "model.onnx.data" in paths
    caches = open_bundle(pico_bundle).manifest.backends["onnx"].caches
    sizes = {"kv-global": 0, "kv-ring": 0}
    for cache in caches:
        sizes["kv-global" if cache.kind == "linear" else "kv-ring"] += cache.size_bytes
    for part, size in sizes.items():
        of_part = [r for r in phases["one"]["regions"] if r["part"] == part]
        assert sum(region["bytes"] for region in of_part) == size
    assert resident(phases["loaded"]) == 0
    # Caches become resident as positions are written.
    assert 0 < resident(phases["one"]) < resident(phases["many"])


def resident(phase: dict[str, Any]) -> int:
    return sum(r["resident_bytes"] for r in phase["regions"] if r["part"].startswith("kv-"))


@pytest.mark.parametrize(("options", "stated"), [({}, "0"), ({"mlas.disable_kleidiai": "1"}, "1")])
def test_the_kernel_policy_is_stated(
    onnx_runner: Path, damaged: Callable[..., Path], tmp_path: Path, options: Any, stated: str
) -> None:
    bundle = damaged(lambda entry: entry["options"].update(options))
    status, events, _ = run(onnx_runner, bundle, ["feed 5"], tmp_path)
    assert status == 0, events[-1]
    (runtime,) = [event for event in events if event["event"] == "runtime"]
    assert runtime["name"] == "onnxruntime"
    assert runtime["version"].startswith("1.")
    assert runtime["kernels"] == f"mlas.disable_kleidiai={stated}"


def test_session_options_of_the_bundle_reach_the_runtime(
    onnx_runner: Path, damaged: Callable[..., Path], tmp_path: Path
) -> None:
    # The model is of the other format: the runtime can only notice if it was told.
    bundle = damaged(lambda entry: entry["options"].update({"session.load_model_format": "ORT"}))
    status, events, _ = run(onnx_runner, bundle, ["feed 5"], tmp_path)
    assert status == 3
    assert "ORT model" in events[-1]["reason"]


def test_the_attention_kernel_is_the_one_that_the_bundle_asks_for(
    onnx_runner: Path, damaged: Callable[..., Path], tmp_path: Path
) -> None:
    rows = []
    for asked in ("unfused", "flash"):
        bundle = damaged(lambda entry, asked=asked: entry["options"].update(attention=asked))
        script = ["feed+ " + " ".join(map(str, range(5, 105)))]
        status, events, logits = run(onnx_runner, bundle, script, tmp_path)
        assert status == 0, events[-1]
        rows.append(np.fromfile(logits, np.float32))
        shutil.rmtree(bundle)
    # Sums in another order.
    assert (rows[0] != rows[1]).any()


@dataclass(frozen=True)
class Damage:
    """One change of a backend's entry, and what the runner says of it."""

    change: Callable[[dict[str, Any]], object]
    reason: str


def of_first_cache(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda entry: entry["caches"][0].update(values)


@pytest.mark.parametrize(
    "damage",
    [
        Damage(lambda entry: entry.update(model="onnx/other.onnx"), "onnx/other.onnx"),
        Damage(lambda entry: entry.update(model="../model.onnx"), "no usable backend onnx"),
        Damage(of_first_cache(head_dim=64), "past_key_values.0.key"),
        Damage(of_first_cache(dtype="int8"), "int8"),
        Damage(lambda entry: entry["caches"].append(entry["caches"][0]), "past_key_values."),
        Damage(lambda entry: entry["caches"].pop(), "past_key_values."),
        Damage(lambda entry: entry["runtime_floor"].update(onnxruntime="9.1"), "at least 9.1"),
    ],
    ids=["missing model", "outside", "shape", "type", "more layers", "fewer layers", "floor"],
)
def test_a_damaged_bundle_is_a_clear_error(
    onnx_runner: Path, damaged: Callable[..., Path], tmp_path: Path, damage: Damage
) -> None:
    status, events, _ = run(onnx_runner, damaged(damage.change), ["feed 5"], tmp_path)
    assert status == 3
    assert damage.reason in events[-1]["reason"]


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--library", "/nowhere/libonnxruntime.so", "/nowhere/libonnxruntime.so"),
        ("--library", "libm.so.6", "libm.so.6: no ONNX Runtime"),
        ("--packed-cache", "packed.bin", "maps no packed weights"),
    ],
)
def test_an_option_that_cannot_be_met_is_a_clear_error(
    onnx_runner: Path, pico_bundle: Path, tmp_path: Path, option: str, value: str, reason: str
) -> None:
    status, events, _ = run(onnx_runner, pico_bundle, ["feed 5"], tmp_path, option, value)
    assert status == 3
    assert reason in events[-1]["reason"]


def test_a_context_may_be_filled_to_its_end(onnx_runner: Path, tmp_path: Path) -> None:
    built = lowered_onnx(Build("gemma3_text", local_cache="ring"))
    tokens = random_tokens(CONTEXT)
    line = "feed+ " + " ".join(map(str, tokens))
    status, events, logits = run(onnx_runner, bundle_of(built), [line], tmp_path)
    assert status == 0, events[-1]
    expected = logits_after(built.load(), tokens, SPLITS["chunks"])[-1]
    np.testing.assert_array_equal(np.fromfile(logits, np.float32), expected)
