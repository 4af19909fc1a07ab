"""The ExecuTorch engine on tiny artifacts: reuse, rewind, and files that it must refuse."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("executorch")

from pocketlm.runtime_py import caches, engines
from pocketlm.runtime_py.engine import LoadedModel
from pocketlm.runtime_py.engines.executorch.engine import LoadedProgram, _roomy_folder
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.manifest import TensorEntry
from tests.artifacts import (
    CHUNK,
    CONTEXT,
    Lowered,
    logits_after,
    lowered_executorch,
    random_tokens,
)
from tests.conftest import WINDOW

RING = WINDOW + CHUNK - 1


@pytest.fixture(scope="module")
def built() -> Lowered:
    return lowered_executorch("gemma3_text", "int4-g32")


@pytest.fixture(scope="module")
def model(built: Lowered) -> LoadedModel:
    return built.load()


def fresh(model: LoadedModel, tokens: list[int]) -> np.ndarray:
    """Logits of the last token, in a cache that held something else before."""
    splits = [CHUNK] * (len(tokens) // CHUNK) + [len(tokens) % CHUNK or 0]
    return logits_after(model, tokens, [s for s in splits if s])[-1]


def rewind_error(built: Lowered, length: int, target: int) -> str | None:
    return caches.rewind_error((c.layout for c in built.entry.caches), length, target)


def test_caches_need_no_clearing(built: Lowered, model: LoadedModel) -> None:
    tokens = random_tokens(20, seed=1)
    expected = fresh(built.load(), tokens)
    fresh(model, random_tokens(CONTEXT, seed=2))
    model.reset()
    np.testing.assert_array_equal(fresh(model, tokens), expected)


@pytest.mark.parametrize("back", range(CHUNK + 1))
@pytest.mark.parametrize("length", [WINDOW, RING, RING + 1, 2 * RING + 3, CONTEXT - CHUNK])
def test_after_an_allowed_rewind_answers_are_those_of_the_other_text(
    built: Lowered, model: LoadedModel, length: int, back: int
) -> None:
    first, other = random_tokens(length, seed=3), random_tokens(CHUNK, seed=4)
    target = length - back
    expected = fresh(model, first[:target] + other)
    fresh(model, first)
    assert rewind_error(built, length, target) is None
    found = [model.run(other[:2], target), model.run(other[2:], target + 2)][-1][-1]
    # Other chunk borders change the order of float32 sums, which can move a rounded activation.
    assert np.abs(found - expected).max() < 5e-2 * expected.std()


def test_logits_belong_to_the_caller_and_have_no_padding(model: LoadedModel) -> None:
    first = model.run([1, 2], 0)
    kept = first.copy()
    model.run([3], 2)
    np.testing.assert_array_equal(first, kept)
    assert first.shape == (2, 512)
    assert first.dtype == np.float32


def test_more_tokens_than_the_chunk_are_an_error(model: LoadedModel) -> None:
    with pytest.raises(RunError, match=f"{CHUNK + 1} tokens at position 0 failed"):
        model.run(random_tokens(CHUNK + 1), 0)


def test_tokens_beyond_the_context_are_an_error_not_a_crash(model: LoadedModel) -> None:
    with pytest.raises(RunError, match=f"position {CONTEXT - 1} failed"):
        model.run([1, 2], CONTEXT - 1)


@pytest.mark.parametrize("kept", [0, 7, 100, 4096, -1], ids=lambda kept: f"{kept} bytes")
def test_a_truncated_file_is_an_error(built: Lowered, tmp_path: Path, kept: int) -> None:
    (tmp_path / "executorch").mkdir()
    (tmp_path / built.artifact.model).write_bytes(built.model_file.read_bytes()[:kept])
    with pytest.raises(RunError, match="executorch cannot load it"):
        engines.load("executorch").load(tmp_path, built.manifest, built.entry, 1)


def test_a_missing_file_is_an_error(built: Lowered, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="executorch cannot load it"):
        engines.load("executorch").load(tmp_path, built.manifest, built.entry, 1)


def test_another_width_of_logits_is_an_error(built: Lowered) -> None:
    entry = replace(built.entry, logits_size=600)
    with pytest.raises(RunError, match=r"expected tokens .* \[1, 3, 600\]"):
        engines.load("executorch").load(built.folder, built.manifest, entry, 1)


def test_another_chunk_than_the_manifest_says_is_an_error(built: Lowered) -> None:
    decoder = built.entry.decoder
    assert decoder.signature is not None
    tokens, position = decoder.signature.inputs
    signature = replace(decoder.signature, inputs=(replace(tokens, shape=(1, 9)), position))
    entry = replace(built.entry, components=(replace(decoder, signature=signature),))
    message = rf"inputs\[0\] of forward should be a tensor: int64\[1, 9\] .* int64\[1, {CHUNK}\];"
    with pytest.raises(RunError, match=message):
        engines.load("executorch").load(built.folder, built.manifest, entry, 1)


def test_the_thread_pool_has_the_threads_asked_for(built: Lowered) -> None:
    from executorch.extension.pybindings import portable_lib

    for threads in (2, 1):
        loaded = engines.load("executorch").load(built.folder, built.manifest, built.entry, threads)
        assert isinstance(loaded, LoadedProgram)
        assert portable_lib._threadpool_get_thread_count() == threads


def test_the_exact_form_runs_from_a_folder_that_goes_when_it_is_closed(
    built: Lowered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    tokens = random_tokens(20, seed=5)
    rounded = fresh(built.load(), tokens)
    exact = load_exact(built)
    assert [path.name for path in tmp_path.glob("*/*")] == ["model.pte"]
    first = fresh(exact, tokens)
    # Rounding moves the ordinary form; the twin's order of sums does not.
    moved = np.abs(first - rounded).max() / first.std()
    assert 1e-4 < moved < 0.5
    exact.clear()
    np.testing.assert_array_equal(fresh(exact, tokens), first)
    exact.close()
    assert not list(tmp_path.iterdir())


def load_exact(built: Lowered) -> LoadedModel:
    form = engines.load("executorch").exact
    assert form is not None
    return form.load(built.folder, built.manifest, built.entry, 1)


def test_a_twin_that_cannot_be_loaded_leaves_nothing_behind(
    built: Lowered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    changed = replace(built, artifact=replace(built.artifact, logits_size=7))
    with pytest.raises(RunError, match=r"\[1, 3, 7\] logits out"):
        load_exact(changed)
    assert not list(tmp_path.iterdir())


def test_large_twins_lie_on_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr("os.access", lambda *_: True)
    assert _roomy_folder() == "/var/tmp"
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    assert _roomy_folder() is None


def test_the_exact_form_says_what_memory_it_takes(built: Lowered) -> None:
    form = engines.load("executorch").exact
    assert form is not None
    tensors = (
        TensorEntry("embed_tokens", (512, 64), 4, 32, 18_432, 20.0, ""),
        TensorEntry("layers.0.mlp.up_proj", (128, 64), 4, 32, 4_608, 20.0, ""),
        TensorEntry("norm", (64,), 32, None, 256, None, ""),
    )
    tied = replace(built.manifest, tensors=tensors)
    body, head = 4 * 128 * 64 - 4_608, 4 * 512 * 64 - 18_432
    assert form.extra_bytes(tied, built.entry) == body + head
    own = TensorEntry("lm_head", (512, 64), 32, None, 131_072, None, "")
    assert form.extra_bytes(replace(tied, tensors=(*tensors, own)), built.entry) == body
