"""Gemma 3 270M's published Q4_K_M GGUF file builds by itself, for each backend."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("executorch")

from pocketlm.edge_build.build import build
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.models.checkpoint import open_checkpoint
from pocketlm.runtime_py.bundle import open_bundle
from pocketlm.runtime_py.verification import verify
from tests.assets import gemma3_270m, gemma3_270m_gguf, tokenizer_of

pytestmark = pytest.mark.assets_heavy


@pytest.mark.parametrize("backend", ["onnx", "executorch"])
def test_the_file_builds_and_answers_as_its_own_weights(tmp_path: Path, backend: str) -> None:
    out = tmp_path / "bundle"
    spec = BuildSpec(
        gemma3_270m_gguf(),
        out,
        backends=(backend,),
        context_length=256,
        chunk=64,
        golden_tokens=2,
    )
    manifest = build(spec)
    assert manifest.recipe == "checkpoint-grid"
    owns = [tensor.own_grid for tensor in manifest.tensors if tensor.own_grid]
    # Q5_0 and Q8_0; the other 36 matrices are Q4_K and Q6_K.
    assert len(owns) == 91
    assert all(own.on_grid == own.groups for own in owns)
    kept = sum(own.kept == own.groups for own in owns)
    assert kept == (91 if backend == "onnx" else 0)
    result = verify(open_bundle(out), backend)
    assert result.passed


def test_config_is_the_published_one() -> None:
    found = open_checkpoint(gemma3_270m_gguf()).config
    expected = open_checkpoint(gemma3_270m()).config
    assert replace(found, norm_weight_offset=expected.norm_weight_offset) == expected


def test_tokenizer_is_the_published_one_but_for_the_token_without_a_row() -> None:
    checkpoint = open_checkpoint(gemma3_270m_gguf())
    assert checkpoint.text_files is not None
    found = json.loads(checkpoint.text_files()["tokenizer.json"])
    published = json.loads((tokenizer_of("gemma3") / "tokenizer.json").read_text())
    assert published["added_tokens"].pop()["content"] == "<image_soft_token>"
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in
              published["model"]["merges"]]  # fmt: skip
    assert found["model"]["merges"] == merges
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        assert found[part] == published[part]
    # The file calls unused tokens control tokens: they are not shown, which none of them is.
    for ours, theirs in zip(found["added_tokens"], published["added_tokens"], strict=True):
        assert ours | {"special": None} == theirs | {"special": None}
    assert found["model"]["vocab"] == published["model"]["vocab"]
