"""The embedded model from checkpoint to verified bundle, on every backend."""

import json
import shutil
from pathlib import Path

import pytest

from pocketlm.edge_build import backends
from pocketlm.runtime_py import open_bundle, open_session
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.golden import Golden
from pocketlm.runtime_py.verification import verify


@pytest.mark.parametrize("backend", backends.names())
def test_artifact_answers_as_the_eager_model_for_64_tokens(pico_bundle: Path, backend: str) -> None:
    result = verify(open_bundle(pico_bundle), backend)
    assert result.passed, result
    golden = Golden.from_json((pico_bundle / f"golden/{backend}.json").read_text())
    assert {len(case.continuation_ids) for case in golden.cases} == {64}


@pytest.mark.parametrize("backend", backends.names())
def test_free_running_greedy_ids_leave_the_eager_model_only_at_near_ties(
    pico_bundle: Path, backend: str
) -> None:
    # Which of two ids within rounding of each other wins depends on the processor that builds.
    golden = Golden.from_json((pico_bundle / f"golden/{backend}.json").read_text())
    cases = [case for case in golden.cases if case.fed_ids == case.continuation_ids[:-1]]
    assert len(cases) >= 2
    with open_session(pico_bundle, backend=backend) as session:
        for case in cases:
            session.reset()
            found = int(session.prefill(case.prompt_ids).argmax())
            for step, expected in enumerate(case.continuation_ids):
                if found != expected:
                    assert case.may_choose(step, found), (case.name, step)
                    break
                found = int(session.decode(found).argmax())


@pytest.mark.parametrize("backend", backends.names())
def test_golden_answers_reach_past_a_ring_wrap(pico_bundle: Path, backend: str) -> None:
    manifest = open_bundle(pico_bundle).manifest
    capacity = max(c.capacity for c in manifest.backends[backend].caches if c.window is not None)
    golden = Golden.from_json((pico_bundle / f"golden/{backend}.json").read_text())
    longest = max(len(case.prompt_ids) + len(case.continuation_ids) for case in golden.cases)
    assert longest > capacity + manifest.prefill_chunk


@pytest.mark.parametrize("backend", backends.names())
def test_kv_bytes_in_the_manifest_equal_the_formula(pico_bundle: Path, backend: str) -> None:
    manifest = open_bundle(pico_bundle).manifest
    expected = 0
    for layer in manifest.model["layers"]:
        window = layer["window"]
        slots = 512 if window is None else min(512, window + 32 - 1)
        expected += 2 * slots * layer["num_key_value_heads"] * layer["head_dim"] * 4
    assert manifest.backends[backend].kv_cache_bytes == expected
    document = json.loads((pico_bundle / "manifest.json").read_text())
    assert document["backends"][backend]["kv_cache_bytes"] == expected


def test_both_backends_continue_alike(pico_bundle: Path) -> None:
    prompt = Golden.from_json((pico_bundle / "golden/onnx.json").read_text()).cases[0].prompt_ids
    chosen = []
    for backend in backends.names():
        with open_session(pico_bundle, backend=backend) as session:
            chosen.append(int(session.prefill(list(prompt)).argmax()))
    assert len(set(chosen)) == 1


def test_every_file_is_listed_and_every_weight_accounted_for(pico_bundle: Path) -> None:
    manifest = open_bundle(pico_bundle).manifest
    present = {p.relative_to(pico_bundle).as_posix() for p in pico_bundle.rglob("*") if p.is_file()}
    assert {entry.path for entry in manifest.files} == present - {"manifest.json"}
    assert {tensor.bits for tensor in manifest.tensors if len(tensor.shape) == 2} == {4}
    assert all(tensor.reason for tensor in manifest.tensors)


def test_nothing_is_left_beside_the_bundle(pico_bundle: Path) -> None:
    assert list(pico_bundle.parent.iterdir()) == [pico_bundle]


def test_a_changed_artifact_is_refused(pico_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(pico_bundle, tmp_path / "copy"))
    path = copy / "onnx" / "model.onnx.data"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"onnx/model\.onnx\.data.*sha256"):
        open_bundle(copy)
