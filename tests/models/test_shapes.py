"""The published shapes against published figures."""

import json
from itertools import pairwise

import pytest
import torch

from pocketlm.models import shapes
from pocketlm.models.decoder import Decoder
from pocketlm.models.errors import ModelError
from pocketlm.models.weight_shapes import parameter_count, weight_shapes

# Counted with transformers 5.23; the Gemma 3 and Gemma 2 reports print the same, rounded.
PARAMETERS = {
    "gemma-2-2b": (2_614_341_888, 589_824_000),
    "gemma-3-270m": (268_098_176, 167_772_160),
    "gemma-3-1b": (999_885_952, 301_989_888),
    "gemma-3-4b": (3_880_263_168, 671_252_480),  # text alone
    "qwen3-0.6b": (596_049_920, 155_582_464),
    "qwen3-1.7b": (1_720_574_976, 311_164_928),
    "qwen3-4b": (4_022_468_096, 388_956_160),
    "nano-1.8b-standin": (1_813_686_784, 402_653_184),
    "nano-3.25b-standin": (3_240_787_200, 603_979_776),
}


@pytest.mark.parametrize("name", shapes.NAMES)
def test_a_shape_has_the_published_number_of_parameters(name: str) -> None:
    config = shapes.load(name).config
    assert (parameter_count(config), config.vocab_size * config.hidden_size) == PARAMETERS[name]


@pytest.mark.parametrize("name", shapes.NAMES)
def test_weight_shapes_are_those_of_the_decoder(name: str) -> None:
    config = shapes.with_layers(shapes.load(name), 2).config
    with torch.device("meta"):
        decoder = Decoder(config)
    of_decoder = {
        parameter.removesuffix(".weight"): tuple(weight.shape)
        for parameter, weight in decoder.named_parameters()
    }
    assert weight_shapes(config) == of_decoder


@pytest.mark.parametrize(
    ("name", "window", "global_layers"),
    [
        ("gemma-3-270m", 512, [5, 11, 17]),
        ("gemma-3-1b", 512, [5, 11, 17, 23]),
        ("gemma-3-4b", 1024, [5, 11, 17, 23, 29]),
        ("gemma-2-2b", 4096, list(range(1, 26, 2))),
        ("qwen3-0.6b", None, list(range(28))),
        ("qwen3-4b", None, list(range(36))),
        ("nano-1.8b-standin", 512, [5, 11, 17, 23]),
    ],
)
def test_layers_are_local_and_global_in_the_published_pattern(
    name: str, window: int | None, global_layers: list[int]
) -> None:
    layers = shapes.load(name).config.layers
    assert [index for index, layer in enumerate(layers) if layer.window is None] == global_layers
    assert {layer.window for layer in layers} - {None} == ({window} - {None})


def test_gemma_3_4b_scales_positions_on_global_layers_only() -> None:
    config = shapes.load("gemma-3-4b").config
    for layer in config.layers:
        if layer.window is None:
            assert (layer.rope_theta, layer.rope_factor) == (1_000_000.0, 8.0)
        else:
            assert (layer.rope_theta, layer.rope_factor) == (10_000.0, 1.0)


def test_gemma_3_4b_takes_what_its_file_leaves_out_from_the_class() -> None:
    shape = shapes.load("gemma-3-4b")
    assert "head_dim" not in shape.published["text_config"]
    config, layer = shape.config, shape.config.layers[0]
    assert (layer.num_attention_heads, layer.num_key_value_heads, layer.head_dim) == (8, 4, 256)
    assert (config.vocab_size, config.max_position_embeddings) == (262_208, 131_072)


def test_gemma_scales_embeddings_by_the_exact_root() -> None:
    assert shapes.load("gemma-3-1b").config.embedding_scale == 1152**0.5  # bf16 would give 34
    assert shapes.load("gemma-3-4b").config.embedding_scale == 2560**0.5
    assert shapes.load("qwen3-0.6b").config.embedding_scale == 1.0


def test_gemma_2_caps_scores_and_logits() -> None:
    config = shapes.load("gemma-2-2b").config
    assert (config.attention_softcap, config.logits_softcap) == (50.0, 30.0)
    assert config.attention_scale == 1 / 16
    assert not config.query_key_norm


def test_qwen3_has_heads_wider_than_its_hidden_size() -> None:
    config = shapes.load("qwen3-0.6b").config
    layer = config.layers[0]
    assert (layer.head_dim, layer.query_size, config.hidden_size) == (128, 2048, 1024)
    assert config.attention_scale == 128**-0.5
    assert config.norm_weight_offset == 0.0


def test_stand_ins_say_what_they_are() -> None:
    for name in shapes.NAMES:
        assert ("standin" in name) == ("stand-in" in shapes.load(name).note)


def test_a_shape_can_be_cut_to_its_first_layers() -> None:
    shape = shapes.load("gemma-3-4b")
    cut = shapes.with_layers(shape, 7)
    assert cut.config.layers == shape.config.layers[:7]
    assert cut.published["text_config"]["num_hidden_layers"] == 7


def test_cutting_a_shape_cuts_its_layer_types_too() -> None:
    types = ["sliding_attention", "full_attention", "sliding_attention"]
    published = {
        **shapes.load("gemma-3-270m").published,
        "num_hidden_layers": 3,
        "layer_types": types,
    }
    cut = shapes.with_layers(shapes.shape_of("three", published), 2)
    assert cut.published["layer_types"] == types[:2]


@pytest.mark.parametrize("layers", [0, -1, 19])
def test_cutting_to_an_impossible_number_of_layers_names_the_possible(layers: int) -> None:
    with pytest.raises(ModelError, match=f"--layers {layers}: gemma-3-270m has 18; give 1 to 18"):
        shapes.with_layers(shapes.load("gemma-3-270m"), layers)


def test_an_unknown_shape_names_the_nearest_and_all() -> None:
    with pytest.raises(ModelError) as failure:
        shapes.load("gemma3-1b")
    assert "nearest known is 'gemma-3-1b'" in str(failure.value)
    for name in shapes.NAMES:
        assert name in str(failure.value)


def test_shapes_are_sorted_and_valid_json() -> None:
    assert all(first < second for first, second in pairwise(shapes.NAMES))
    for name in shapes.NAMES:
        json.dumps(shapes.load(name).published)
