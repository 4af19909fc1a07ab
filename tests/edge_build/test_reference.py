"""The eager reference against the Decoder: same weights, same logits, however tokens are split."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pocketlm.edge_build.progress import silent
from pocketlm.edge_build.quantization import recipes
from pocketlm.edge_build.quantization.activations import (
    Rounding,
    quantize_per_block_symmetric,
    quantize_per_token_asymmetric,
)
from pocketlm.edge_build.quantization.apply import quantize_weights
from pocketlm.edge_build.quantization.rules import choose_rules
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.edge_build.reference import ReferenceModel
from pocketlm.models.checkpoint import Checkpoint, load_decoder, open_checkpoint
from pocketlm.runtime_py.manifest import AttentionQuantization

TOKENS = torch.randint(0, 512, (37,), generator=torch.Generator().manual_seed(5)).tolist()


def store(checkpoint: Checkpoint, recipe: str, folder: Path) -> WeightStore:
    rules = choose_rules(checkpoint.shapes, recipes.load(recipe))
    return quantize_weights(checkpoint, rules, folder, silent).weights


@pytest.mark.parametrize("family", ["gemma3_text", "gemma2", "qwen3"])
def test_reference_without_quantization_is_the_decoder(
    family: str, tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint(family))
    expected = load_decoder(checkpoint)(torch.tensor([TOKENS]))[0]
    model = ReferenceModel(checkpoint.config, store(checkpoint, "none", tmp_path), "none")
    split = [model.run(TOKENS[:9]), model.run(TOKENS[9:10]), model.run(TOKENS[10:])]
    # The same float32 arithmetic; a different split sums in another order.
    assert float((torch.cat(split) - expected).abs().max()) < 1e-4 * float(expected.std())


def test_reference_dequantizes_what_the_store_holds(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint("gemma3_text"))
    weights = store(checkpoint, "int4-g32", tmp_path)
    decoder = load_decoder(checkpoint)
    with torch.no_grad():
        for name in weights.names():
            if weights.schemes[name] is not None:
                rows = weights.rows(name, 0, weights.shape(name)[0])
                decoder.get_submodule(name).weight.copy_(torch.from_numpy(rows))
    expected = decoder(torch.tensor([TOKENS]))[0]
    found = ReferenceModel(checkpoint.config, weights, "none").run(TOKENS)
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.std())


def test_large_weights_are_used_block_by_block(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint("qwen3"))
    weights = store(checkpoint, "int4-g32", tmp_path)
    whole = ReferenceModel(checkpoint.config, weights, "per_token_asymmetric").run(TOKENS)
    monkeypatch.setattr("pocketlm.edge_build.reference._KEPT_ELEMENTS", 0)
    monkeypatch.setattr("pocketlm.edge_build.reference._BLOCK_ELEMENTS", 1000)
    blocks = ReferenceModel(checkpoint.config, weights, "per_token_asymmetric").run(TOKENS)
    # Blocks of rows may be summed in another order by the matrix library, which can turn one
    # activation code: 1/255 of a row's range.
    assert float((blocks - whole).abs().max()) < 0.02 * float(whole.std())


def test_per_token_rounding_is_within_half_a_step_and_keeps_zero() -> None:
    x = torch.randn(50, 64, generator=torch.Generator().manual_seed(1)) * 3 + 1
    x[:, 5] = 0.0
    rounded = quantize_per_token_asymmetric(x)
    step = (x.amax(-1).clamp(min=0) - x.amin(-1).clamp(max=0)) / 255
    # Half a step for the code, and half for the zero point of the end that was not chosen.
    assert bool(((rounded - x).abs() <= 1.01 * step[:, None]).all())
    assert not bool(rounded[:, 5].any())


def test_per_block_rounding_is_within_half_a_step_of_each_block() -> None:
    x = torch.randn(20, 96, generator=torch.Generator().manual_seed(2))
    x[:, 0] = 40.0
    rounded = quantize_per_block_symmetric(x, 32)
    step = x.unflatten(-1, (3, 32)).abs().amax(-1) / 127
    error = (rounded - x).abs().unflatten(-1, (3, 32)).amax(-1)
    assert bool((error <= 0.501 * step).all())


def test_rows_of_zeros_stay_zero() -> None:
    zeros = torch.zeros(2, 64)
    assert torch.equal(quantize_per_token_asymmetric(zeros), zeros)
    assert torch.equal(quantize_per_block_symmetric(zeros, 32), zeros)


WAYS = (
    Rounding("per_token_asymmetric"),
    Rounding("per_block_symmetric"),
    Rounding("none", "qkv_per_token"),
    Rounding("per_token_asymmetric", "qkv_per_token"),
    Rounding("none", "qkv_per_token", (0, 2)),
)


@pytest.mark.parametrize("family", ["gemma3_text", "gemma2", "qwen3"])
def test_sequences_read_in_all_ways_at_once_are_those_read_apart(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint(family))
    weights = store(checkpoint, "int4-g32", tmp_path)
    together = ReferenceModel(checkpoint.config, weights, "none", also=WAYS)
    texts = TOKENS, TOKENS[5:18]
    states = together.hidden([(text, range(len(text))) for text in texts])
    assert together.position == 0
    for text, hidden in zip(texts, states, strict=True):
        exact, *rounded = together.logits(hidden[:, -3:])
        apart = ReferenceModel(checkpoint.config, weights, "none").run(text, rows=3)
        # Products of a batch may add up in another order; a code that turns moves a row by more.
        torch.testing.assert_close(exact, apart, rtol=0, atol=1e-5 * float(apart.std()))
        for way, found in zip(WAYS, rounded, strict=True):
            alone = ReferenceModel(
                checkpoint.config, weights, way.activations, way.attention, whole=way.whole
            )
            close = (found - alone.run(text, rows=3)).abs().max()
            assert close < 0.1 * found.std(), way
            assert not torch.allclose(found, exact, atol=1e-3), way


def test_each_weight_is_unpacked_once_for_all_sequences_and_ways(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint("qwen3"))
    weights = store(checkpoint, "int4-g32", tmp_path)
    monkeypatch.setattr("pocketlm.edge_build.reference._KEPT_ELEMENTS", 0)
    unpacked: list[str] = []
    rows = WeightStore.rows
    monkeypatch.setattr(
        WeightStore, "rows", lambda s, name, *r: unpacked.append(name) or rows(s, name, *r)
    )
    model = ReferenceModel(checkpoint.config, weights, "none", also=WAYS)
    layers: list[int] = []
    model.hidden([(TOKENS, range(len(TOKENS)))] * 3, layers.append)
    linear = [name for name in unpacked if name != "embed_tokens"]
    assert len(linear) == len(set(linear)) == 7 * checkpoint.config.num_layers
    assert unpacked.count("embed_tokens") == len(set(TOKENS))
    assert layers == [0, 1, 2, 3]


@pytest.mark.parametrize("family", ["gemma3_text", "gemma2", "qwen3"])
@pytest.mark.parametrize("attention", ["none", "qkv_per_token"])
def test_slots_of_zeros_are_seen_as_zeros(
    tiny_checkpoint: Callable[[str], Path],
    tmp_path: Path,
    family: str,
    attention: AttentionQuantization,
) -> None:
    """Keys and values of zeros in every slot without a token give the same, slot by slot."""
    checkpoint = open_checkpoint(tiny_checkpoint(family))
    model = ReferenceModel(
        checkpoint.config, store(checkpoint, "none", tmp_path), "none", attention
    )
    positions, config = [0, 1, 2, 7, 8, 9, 30, 31], checkpoint.config
    (hidden,) = model.hidden([(TOKENS[: len(positions)], positions)])
    placed = model.logits(hidden)[0]
    slot = (1, 1, config.layers[0].num_key_value_heads, config.layers[0].head_dim)
    for token, position, expected in zip(TOKENS, positions, placed, strict=False):
        while model.position < position:
            model.past = [
                (torch.cat((key, torch.zeros(slot)), 1), torch.cat((value, torch.zeros(slot)), 1))
                for key, value in model.past
            ]
        row = model.run([token])[0]
        # float32 in another order; a code that turns moves a row by a few 1e-3.
        bound = 1e-5 if attention == "none" else 1e-2
        assert (row - expected).abs().max() < bound * expected.std()
