"""A model whose layers differ in heads, head size, MLP, rotation, window and whose keys they read:
all ways to run it agree."""

import atexit
import json
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pocketlm.edge_build.backend import LoweringInput
from pocketlm.edge_build.kv_cache import plan_caches
from pocketlm.edge_build.lowered_cache import user_lowered_cache
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.edge_build.reference import ReferenceModel
from pocketlm.edge_build.stage_results import ARTIFACT
from pocketlm.models.config import ModelConfig
from pocketlm.models.decoder import Decoder
from pocketlm.models.weight_shapes import weight_shapes
from tests.artifacts import CHUNK, CONTEXT, LoweredSource, ends, logits_after, random_tokens, write
from tests.conftest import WINDOW
from tests.kept import kept_folder
from tests.parity_cases import SPLITS
from tests.small_layers import SMALL_LAYER

LOCAL = replace(SMALL_LAYER, window=WINDOW)
# Half of its channels turn.
GLOBAL = replace(SMALL_LAYER, num_key_value_heads=1, head_dim=32, rope_theta=1e6, rotary_dim=16)
READS_LOCAL = replace(LOCAL, kv_from=0, num_attention_heads=2, intermediate_size=96)
READS_GLOBAL = replace(GLOBAL, kv_from=1, num_attention_heads=2)
CONFIG = ModelConfig(
    model_type="mixed",
    vocab_size=512,
    hidden_size=64,
    layers=(LOCAL, GLOBAL, READS_LOCAL, READS_LOCAL, READS_GLOBAL),
    rms_norm_eps=1e-6,
    max_position_embeddings=CONTEXT,
    attention_scale=0.25,
    activation="silu",
    query_key_norm=True,
)
TOKENS = random_tokens(CONTEXT)


@cache
def source() -> LoweringInput:
    folder = Path(tempfile.mkdtemp(prefix="pocketlm-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    generator = np.random.default_rng(0)
    for name, shape in weight_shapes(CONFIG).items():
        spread = 1.0 if len(shape) == 1 else shape[1] ** -0.5
        weight = spread * generator.standard_normal(shape, dtype=np.float32)
        np.save(folder / f"{name}.float.npy", weight)
    return LoweringInput(
        config=CONFIG,
        weights=WeightStore(folder, dict.fromkeys(weight_shapes(CONFIG))),
        caches=plan_caches(CONFIG, CONTEXT, CHUNK),
        stop_ids=(1,),
        bos_id=2,
        pad_id=0,
        tokenizer_size=CONFIG.vocab_size,
        lowered=user_lowered_cache(),
    )


@cache
def decoder_logits() -> NDArray[np.float32]:
    decoder, weights = Decoder(CONFIG), source().weights
    for name in weights.names():
        decoder.get_submodule(name).weight.data = torch.from_numpy(weights.floating(name).copy())
    decoder.lm_head.weight = decoder.embed_tokens.weight
    with torch.no_grad():
        found: NDArray[np.float32] = decoder(torch.tensor([TOKENS]))[0].numpy()
    return found


def test_layers_that_read_others_have_no_weights_and_no_cache_for_keys() -> None:
    shapes = weight_shapes(CONFIG)
    assert shapes["layers.1.attention.k_proj"] == (32, 64)
    assert shapes["layers.4.attention.q_proj"] == (64, 64)
    assert not {f"layers.2.attention.{part}" for part in ("k_proj", "v_proj", "k_norm")} & {*shapes}
    kept = [(c.kind, c.num_key_value_heads, c.head_dim) for c in source().caches.layers]
    assert kept == [("ring", 2, 16), ("linear", 1, 32)]


@pytest.mark.parametrize("splits", SPLITS.values(), ids=list(SPLITS))
def test_caches_give_what_full_attention_gives(splits: list[int]) -> None:
    model = ReferenceModel(CONFIG, source().weights, "none")
    rows, position = [], 0
    for length in splits:
        rows.append(model.run(TOKENS[position : position + length], 1)[0].numpy())
        position += length
    assert len(model.past) == 2
    expected = decoder_logits()
    # float32 in another order.
    assert np.abs(np.stack(rows) - expected[ends(splits)]).max() < 2e-5 * expected.std()


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        ("onnx", {"local-cache": "windowed"}),
        ("onnx", {"local-cache": "ring"}),
        ("executorch", {}),
    ],
)
def test_an_artifact_gives_what_full_attention_gives(backend: str, options: dict[str, str]) -> None:
    lowered = replace(source(), options=options)

    def lower(folder: Path) -> None:
        made, _ = write(backend, lowered, folder / "bundle")
        (folder / "artifact.json").write_text(json.dumps(ARTIFACT.write(made, folder)))

    folder = kept_folder(__file__, f"{backend} {options}", lower)
    artifact = ARTIFACT.read(json.loads((folder / "artifact.json").read_bytes()), folder)
    built = LoweredSource(backend, lowered, artifact, folder / "bundle")
    assert len(built.artifact.caches) == 2
    expected = decoder_logits()
    for splits in SPLITS.values():
        found = logits_after(built.load(), TOKENS, splits)
        # float32 in another order.
        assert np.abs(found - expected[ends(splits)]).max() < 2e-5 * expected.std()
