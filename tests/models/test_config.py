"""What a layer may be, and which layers may read each other's keys and values."""

from dataclasses import replace
from typing import Any

import pytest

from pocketlm.models.config import LayerConfig, ModelConfig, Rotary
from pocketlm.models.errors import ModelError
from tests.small_layers import SMALL_LAYER


def model(*layers: LayerConfig) -> ModelConfig:
    return ModelConfig("test", 8, 64, layers, 1e-6, 64, 0.25, "silu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_dim": 0}, "head_dim=0 must be at least 1"),
        ({"intermediate_size": -1}, "intermediate_size=-1 must be at least 1"),
        ({"num_key_value_heads": 3}, "4 attention heads cannot share 3 key/value heads"),
        ({"head_dim": 15}, "head_dim=15 must be even for RoPE"),
        ({"window": 0}, "window=0: a layer must see at least its own token"),
        ({"rope_factor": 0.0}, "rope_factor=0.0: both must be above zero"),
        ({"rotary_dim": 18}, "rotary_dim=18: a head has 16 channels; give an even number"),
        ({"rotary_dim": 7}, "rotary_dim=7: a head has 16 channels; give an even number"),
        ({"rotary_dim": 0}, "rotary_dim=0: a head has 16 channels; give an even number"),
    ],
)
def test_a_layer_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        replace(SMALL_LAYER, **changes)


def test_a_layer_rotates_every_channel_unless_it_says_how_many() -> None:
    assert SMALL_LAYER.rotary == Rotary(10_000.0, 1.0, 16)
    assert replace(SMALL_LAYER, rotary_dim=4).rotary == Rotary(10_000.0, 1.0, 4)


def test_caches_are_counted_over_layers_that_have_their_own() -> None:
    reads = replace(SMALL_LAYER, kv_from=1)
    config = model(SMALL_LAYER, SMALL_LAYER, reads, SMALL_LAYER, reads)
    assert config.cached_layers == (0, 1, 3)
    assert [config.cache_of(layer) for layer in range(5)] == [0, 1, 1, 2, 1]
    assert config.shares_caches and not model(SMALL_LAYER).shares_caches


@pytest.mark.parametrize("kv_from", [-1, 1, 2])
def test_keys_come_from_an_earlier_layer(kv_from: int) -> None:
    with pytest.raises(ModelError, match=rf"layers\[1\].kv_from={kv_from}: must be an earlier"):
        model(SMALL_LAYER, replace(SMALL_LAYER, kv_from=kv_from))


def test_keys_come_from_a_layer_that_computes_them() -> None:
    reads = replace(SMALL_LAYER, kv_from=0)
    with pytest.raises(ModelError, match=r"layers\[2\].kv_from=1: .* keys and values of its own"):
        model(SMALL_LAYER, reads, replace(SMALL_LAYER, kv_from=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 8}, "has window=8, but that layer has None; the two must agree"),
        ({"num_key_value_heads": 4}, "has num_key_value_heads=4, but that layer has 2"),
        ({"head_dim": 8}, "has head_dim=8, but that layer has 16"),
        ({"rope_theta": 1e6}, "has rotary=Rotary"),
    ],
)
def test_a_layer_reads_only_keys_of_its_own_kind(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        model(SMALL_LAYER, replace(SMALL_LAYER, kv_from=0, **changes))
