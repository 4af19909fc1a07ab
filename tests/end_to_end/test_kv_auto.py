"""`--kv auto` from checkpoint to verified bundle, also where it takes one kind of layer alone."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pocketlm import main
from pocketlm.edge_build import kv_measuring, preparation
from pocketlm.edge_build.backends.executorch.inspection import inspect_program
from pocketlm.edge_build.backends.onnx.metadata import kv_cache_bytes
from pocketlm.edge_build.build import build
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.kv_rule import choose_kv
from pocketlm.edge_build.kv_rule import kv_candidates as every
from pocketlm.edge_build.progress import Event, StageFinished
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.runtime_py import open_bundle, open_session
from pocketlm.runtime_py.kv_choice import KvMeasured, KvName, kv_choice_of
from pocketlm.runtime_py.memory_inputs import MemoryInputs
from pocketlm.runtime_py.memory_prediction import Positions, predict
from pocketlm.runtime_py.verification import verify
from tests.conftest import MakeCheckpoint

BACKENDS = ("executorch", "onnx")


def spec_of(checkpoint: Path, out: Path, **options: Any) -> BuildSpec:
    return BuildSpec(
        checkpoint, out, context_length=48, chunk=8, golden_tokens=2, **{"kv": "auto", **options}
    )


def files_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: MakeCheckpoint) -> Path:
    return tiny_checkpoint("gemma3_text")


@pytest.fixture(scope="module")
def mixed(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle whose measurement took int8 for local layers on one backend, and for global
    layers on the other."""
    out = tmp_path_factory.mktemp("mixed") / "tiny"
    # Scales in slots belong to ExecuTorch.
    names: dict[bool, KvName] = {True: "int8-local", False: "int8-global"}

    def take(tried: Sequence[KvMeasured]) -> KvName:
        return names[tried[-1].size_bytes * 4 > tried[0].size_bytes]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kv_measuring, "choose_kv", take)
        # ONNX by itself tries what its stock runner has: one precision for all caches.
        patch.setattr(preparation, "kv_candidates", lambda plan, able, mixes: every(plan, able))
        build(spec_of(checkpoint, out))
    return out


def test_each_backend_keeps_what_was_chosen_for_it(mixed: Path) -> None:
    entries = open_bundle(mixed).manifest.backends
    names = {name: kv_choice_of(entry.caches).name for name, entry in entries.items()}
    assert names == {"executorch": "int8-local", "onnx": "int8-global"}
    for entry in entries.values():
        sizes = {one.kv: one.size_bytes for one in entry.kv_measured}
        assert list(sizes) == ["float32", "int8-local", "int8-global", "int8"]
        assert entry.kv_cache_bytes == sizes[kv_choice_of(entry.caches).name]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mixed_artifact_is_verified(mixed: Path, backend: str) -> None:
    result = verify(open_bundle(mixed), backend)
    assert result.passed, result
    assert result.strict.state == "passed"


def test_artifacts_hold_the_bytes_that_the_manifest_and_predictions_say(mixed: Path) -> None:
    manifest = open_bundle(mixed).manifest
    executorch, onnx = (manifest.backends[name] for name in BACKENDS)
    in_program = inspect_program(mixed / executorch.model).caches
    assert sum(in_program.values()) == executorch.kv_cache_bytes
    assert kv_cache_bytes(mixed / onnx.model) == onnx.kv_cache_bytes
    inputs = MemoryInputs.of(manifest)
    for name, entry in manifest.backends.items():
        parts = predict(inputs, name, Positions(48, 8, 48), "x86_64").parts
        found = sum(part.size_bytes for part in parts if part.part.startswith("KV cache"))
        # Written pages are whole: at most one more for each run of rows, of keys and of values.
        runs = 2 * len(entry.caches) * entry.caches[0].num_key_value_heads
        assert entry.kv_cache_bytes <= found <= entry.kv_cache_bytes + 4096 * runs


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_session_over_mixed_caches_goes_back(mixed: Path, backend: str) -> None:
    tokens = [2, 5, 9, 11, 300, 7, 45, 45, 8, 19, 4, 6]
    with open_session(mixed, backend=backend) as session:
        session.prefill(tokens[:8])
        expected = [session.decode(token) for token in tokens[8:10]]
        session.rewind(8)
        assert session.position == 8
        found = [session.decode(token) for token in tokens[8:10]]
        np.testing.assert_array_equal(found, expected)
        session.reset()
        again = [session.decode(token) for token in tokens[:10]][8:]
    assert np.abs(np.stack(again) - np.stack(expected)).max() < 0.2 * np.stack(expected).std()


@pytest.mark.parametrize("command", [("inspect",), ("fit", "--device", "phone-8gb")])
def test_commands_read_a_mixed_bundle(mixed: Path, command: tuple[str, ...]) -> None:
    name, *options = command
    result = CliRunner().invoke(main, [name, str(mixed), *options, "--json"])
    assert result.exit_code == 0, result.output
    shown = CliRunner().invoke(main, [name, str(mixed), *options])
    assert shown.exit_code == 0, shown.output


def test_a_named_choice_gives_the_artifact_of_a_measured_one(
    mixed: Path, checkpoint: Path, tmp_path: Path
) -> None:
    named = tmp_path / "named"
    build(spec_of(checkpoint, named, kv="int8-global", backends=("onnx",)))
    for path, data in files_of(named).items():
        if path.startswith(("onnx/", "golden/onnx")):
            assert (mixed / path).read_bytes() == data, path
    assert open_bundle(named).manifest.backends["onnx"].kv_measured == ()


def test_a_build_that_goes_on_makes_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    spec = spec_of(checkpoint, tmp_path / "tiny", backends=("onnx",))
    build(spec)
    whole = files_of(spec.out)
    entry = open_bundle(spec.out).manifest.backends["onnx"]
    assert kv_choice_of(entry.caches).name == choose_kv(entry.kv_measured)
    again = replace(spec, replace=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pocketlm.edge_build.build.record_golden", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(again)
    events: list[Event] = []
    with pytest.MonkeyPatch.context() as patch:
        # What was measured is taken over.
        patch.setattr("pocketlm.edge_build.build.measure_kv", _interrupted)
        build(again, events.append)
    reused = {e.report.name for e in events if isinstance(e, StageFinished) and e.report.reused}
    assert reused == {"calibrate", "quantize", "kv", "onnx"}
    assert files_of(spec.out) == whole


def _interrupted(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_the_result_says_what_was_measured_and_chosen(checkpoint: Path, tmp_path: Path) -> None:
    arguments = ["build", str(checkpoint), "--kv", "auto", "--backend", "onnx"]
    sizes = ["--context", "48", "--chunk", "8", "--golden-tokens", "2"]
    planned = CliRunner().invoke(main, [*arguments, *sizes, "--dry-run", "-o", str(tmp_path / "x")])
    assert "--kv auto: the build measures what caches are kept in" in planned.stdout
    shown = CliRunner().invoke(main, [*arguments, *sizes, "-o", str(tmp_path / "a")])
    assert shown.exit_code == 0, shown.output
    rows = [line for line in shown.stdout.splitlines() if "│ int8 " in line]
    assert len(rows) == 1
    assert shown.stdout.count("chosen") == 1
    result = CliRunner().invoke(main, [*arguments, *sizes, "--json", "-o", str(tmp_path / "b")])
    found = json.loads(result.stdout)["backends"]["onnx"]
    assert found["kv"] in {one["kv"] for one in found["kv_measured"]}
    assert [one["kv"] for one in found["kv_measured"]] == ["float32", "int8"]


def test_a_choice_that_a_model_does_not_have_leaves_nothing(
    tiny_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    spec = spec_of(tiny_checkpoint("qwen3"), tmp_path / "out", kv="int8-local")
    with pytest.raises(BuildError, match="--kv int8-local: needs layers with a window"):
        build(spec)
    assert not spec.out.exists()
