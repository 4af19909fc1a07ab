"""The native ExecuTorch runner on this machine: its own `llama::` operators against the wheel's."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("executorch")

from pocketlm.runtime_py import open_bundle, open_session
from pocketlm.runtime_py.kv_choice import KV_PRECISIONS, KvPrecision
from tests.artifacts import CONTEXT, logits_after, lowered_executorch, random_tokens
from tests.device_tests.runners.runs import (
    bundle_of,
    check_golden,
    feed,
    golden_of,
    golden_script,
    run,
)
from tests.parity_cases import SPLITS

UNEVEN = SPLITS["uneven"]


@pytest.mark.parametrize("kv", KV_PRECISIONS)
@pytest.mark.parametrize("family", ["gemma3_text", "qwen3", "gemma2"])
def test_logits_are_those_of_the_wheel(
    executorch_runner: Path, tmp_path: Path, family: str, kv: KvPrecision
) -> None:
    built = lowered_executorch(family, "none", kv=kv)
    tokens = random_tokens(CONTEXT)
    expected = logits_after(built.load(), tokens, UNEVEN)
    script = [*feed(tokens, UNEVEN), "reset", *feed(tokens, UNEVEN)]
    status, events, logits = run(executorch_runner, bundle_of(built), script, tmp_path)
    assert status == 0, events[-1]
    found = np.fromfile(logits, np.float32).reshape(2, len(UNEVEN), expected.shape[1])
    # A reset leaves nothing behind.
    np.testing.assert_array_equal(found[0], found[1])
    errors = np.abs(found[0] - expected).max(-1) / expected.std(-1)
    # float32 sums in another order; with int8 caches a query may turn a code, one part in 255.
    assert np.median(errors) < 2e-5
    assert errors.max() < (2e-5 if kv == "float32" else 0.01)


def test_golden_answers_of_a_bundle(
    executorch_runner: Path, pico_bundle: Path, tmp_path: Path
) -> None:
    golden = golden_of(pico_bundle, "executorch")
    script = golden_script(golden)
    status, events, logits = run(executorch_runner, pico_bundle, script, tmp_path)
    assert status == 0, events[-1]
    vocab_size = open_bundle(pico_bundle).manifest.vocab_size
    check_golden(golden, np.fromfile(logits, np.float32).reshape(-1, vocab_size))


def test_decode_feeds_the_greedy_choice_back(
    executorch_runner: Path, pico_bundle: Path, tmp_path: Path
) -> None:
    prompt = [5, 6, 7]
    script = ["feed 5 6 7", "phase prefilled", "decode+ 8", "phase decoded"]
    status, events, logits = run(executorch_runner, pico_bundle, script, tmp_path)
    assert status == 0, events[-1]
    runs = [event for event in events if event["event"] == "run"]
    assert [event["position"] for event in runs] == list(range(3, 12))
    with open_session(pico_bundle, backend="executorch") as session:
        row = session.prefill(prompt)
        for event in runs[:-1]:
            assert event["greedy_id"] == int(row.argmax())
            row = session.decode(event["greedy_id"])
    rows = np.fromfile(logits, np.float32)
    assert len(rows) == 8 * open_bundle(pico_bundle).manifest.vocab_size


def test_phases_tell_where_memory_is(
    executorch_runner: Path, pico_bundle: Path, tmp_path: Path
) -> None:
    status, events, _ = run(executorch_runner, pico_bundle, ["feed 5", "phase used"], tmp_path)
    assert status == 0
    phases = [event for event in events if event["event"] == "phase"]
    assert [phase["phase"] for phase in phases] == ["started", "loaded", "used"]
    assert phases[0]["peak_bytes"] < phases[1]["peak_bytes"]
    paths = {Path(m["path"]).name for m in phases[1]["mappings"]}
    assert {"model.pte", "[heap]", "libexecutorch.so"} <= paths
    assert [event["event"] for event in events][-1] == "end"


def test_packed_weights_are_mapped_in_the_second_run(
    executorch_runner: Path, pico_bundle: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "packed.bin"
    rows = []
    for _ in range(2):
        status, events, logits = run(
            executorch_runner, pico_bundle, ["feed+ 5 6 7"], tmp_path, "--packed-cache", str(cache)
        )
        assert status == 0, events[-1]
        rows.append(logits.read_bytes())
    assert rows[0] == rows[1]
    (loaded,) = [e for e in events if e["event"] == "phase" and e["phase"] == "loaded"]
    mapped = {m["path"]: m for m in loaded["mappings"]}
    assert mapped[str(cache)]["resident_bytes"] > 0


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (["feed 99999999"], "the vocabulary has"),
        (["feed x"], "is no number"),
        (["decode 1"], "before any feed"),
        (["jump 3"], "no such command"),
        (["feed 1", "decode 9999"], "has room for"),
    ],
)
def test_a_wrong_script_is_a_clear_error(
    executorch_runner: Path, pico_bundle: Path, tmp_path: Path, script: list[str], reason: str
) -> None:
    status, events, _ = run(executorch_runner, pico_bundle, script, tmp_path)
    assert status == 3
    assert events[-1]["event"] == "error"
    assert reason in events[-1]["reason"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text[: len(text) // 2], "byte"),
        (
            lambda text: text.replace('"format_version": 2', '"format_version": 3'),
            "bundle format 3, this runner reads 1 to 2",
        ),
        (lambda text: text.replace("executorch/model.pte", "../model.pte"), "no usable backend"),
    ],
)
def test_a_damaged_manifest_is_a_clear_error(
    executorch_runner: Path, pico_bundle: Path, tmp_path: Path, damage: Any, reason: str
) -> None:
    copy = tmp_path / "bundle"
    copy.mkdir()
    text = json.dumps(json.loads((pico_bundle / "manifest.json").read_text()), indent=1)
    (copy / "manifest.json").write_text(damage(text))
    status, events, _ = run(executorch_runner, copy, ["feed 1"], tmp_path)
    assert status == 3
    assert reason in events[-1]["reason"]


def test_a_missing_program_is_a_clear_error(
    executorch_runner: Path, pico_bundle: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "bundle"
    copy.mkdir()
    shutil.copy(pico_bundle / "manifest.json", copy)
    status, events, _ = run(executorch_runner, copy, ["feed 1"], tmp_path)
    assert status == 3
    assert "loading the program" in events[-1]["reason"]
