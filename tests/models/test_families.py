"""Each family's reading of config.json: defaults, old and new keys, refusals."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketlm.models import families
from pocketlm.models.config import ModelConfig
from pocketlm.models.errors import ModelError
from pocketlm.models.tensor_views import published_name
from pocketlm.models.weight_shapes import weight_shapes

GLOBAL_ROPE = {"rope_type": "linear", "factor": 8.0, "rope_theta": 2e6}


def read(family: str, **published: Any) -> ModelConfig:
    if family == "gemma3":
        published = {"text_config": published}
    return families.load(family).read_config(published)


def refusal(family: str, **published: Any) -> str:
    with pytest.raises(ModelError) as failure:
        read(family, **published)
    return str(failure.value)


def ropes(config: ModelConfig) -> set[tuple[bool, float, float]]:
    return {(layer.window is None, layer.rope_theta, layer.rope_factor) for layer in config.layers}


@pytest.mark.parametrize("name", families.NAMES)
def test_a_family_is_named_after_its_model_type(name: str) -> None:
    family = families.load(name)
    assert family.model_type == name
    assert family.read_config({}).model_type == name


@pytest.mark.parametrize("name", families.NAMES)
def test_every_weight_has_a_published_name_of_its_own(name: str) -> None:
    family = families.load(name)
    shapes = weight_shapes(read(name, num_hidden_layers=2))
    for spelling in (family.tensor_names, *family.other_tensor_names):
        published = [published_name(spelling, weight) for weight in shapes]
        assert len(set(published)) == len(shapes)
        assert all(entry.endswith(".weight") for entry in published)


@pytest.mark.parametrize("name", families.NAMES)
def test_the_defaults_are_those_of_transformers(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    reference = transformers.AutoConfig.for_model(name).get_text_config()
    config = read(name)
    for key in (
        "vocab_size",
        "hidden_size",
        "rms_norm_eps",
        "max_position_embeddings",
        "tie_word_embeddings",
    ):
        assert getattr(config, key) == getattr(reference, key), key
    for key in ("intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim"):
        assert {getattr(layer, key) for layer in config.layers} == {getattr(reference, key)}, key
    windows = [
        reference.sliding_window if kind == "sliding_attention" else None
        for kind in reference.layer_types
    ]
    assert [layer.window for layer in config.layers] == windows


@pytest.mark.parametrize("family", ["gemma3_text", "gemma3"])
def test_old_and_new_gemma3_rope_keys_mean_the_same(family: str) -> None:
    new = read(
        family,
        rope_parameters={
            "full_attention": GLOBAL_ROPE,
            "sliding_attention": {"rope_type": "default", "rope_theta": 20_000.0},
        },
    )
    old = read(
        family,
        rope_theta=2e6,
        rope_local_base_freq=20_000,
        rope_scaling={"type": "linear", "factor": 8},
    )
    assert new == old
    assert ropes(new) == {(True, 2e6, 8.0), (False, 20_000.0, 1.0)}


@pytest.mark.parametrize("key", ["sliding_window_pattern", "_sliding_window_pattern"])
@given(pattern=st.integers(1, 9), layers=st.integers(1, 20))
def test_every_nth_layer_of_gemma3_is_global(key: str, pattern: int, layers: int) -> None:
    config = read("gemma3_text", num_hidden_layers=layers, **{key: pattern})
    found = [layer.window is None for layer in config.layers]
    assert found == [number % pattern == 0 for number in range(1, layers + 1)]


def test_layer_types_win_over_the_pattern() -> None:
    config = read(
        "gemma3_text",
        num_hidden_layers=2,
        sliding_window=5,
        sliding_window_pattern=1,
        layer_types=["sliding_attention", "full_attention"],
    )
    assert [layer.window for layer in config.layers] == [5, None]


def test_gemma2_starts_with_a_local_layer() -> None:
    config = read("gemma2", num_hidden_layers=3)
    assert [layer.window for layer in config.layers] == [4096, None, 4096]


def test_gemma2_caps_can_be_switched_off_with_null() -> None:
    config = read("gemma2", attn_logit_softcapping=None, final_logit_softcapping=None)
    assert (config.attention_softcap, config.logits_softcap) == (None, None)


def test_gemma_scales_scores_by_its_own_number() -> None:
    assert read("gemma3_text", query_pre_attn_scalar=168).attention_scale == 168**-0.5
    assert read("gemma2", query_pre_attn_scalar=144).attention_scale == 144**-0.5


def test_qwen3_ignores_its_window_unless_it_is_switched_on() -> None:
    assert read("qwen3", sliding_window=64).windows == (None,)
    windowed = read("qwen3", sliding_window=64, use_sliding_window=True, max_window_layers=30)
    assert [layer.window for layer in windowed.layers] == [None] * 30 + [64] * 2


def test_qwen3_reads_key_value_heads_null_as_one_per_query_head() -> None:
    config = read("qwen3", num_attention_heads=6, num_key_value_heads=None)
    assert {layer.num_key_value_heads for layer in config.layers} == {6}


def test_the_outer_config_of_gemma3_decides_on_tying() -> None:
    family = families.load("gemma3")
    assert family.read_config({"text_config": {}}).tie_word_embeddings
    assert not family.read_config(
        {"tie_word_embeddings": False, "text_config": {"tie_word_embeddings": True}}
    ).tie_word_embeddings


@pytest.mark.parametrize("family", families.NAMES)
@pytest.mark.parametrize(
    ("published", "expected"),
    [
        ({"attention_bias": True}, "attention_bias=True: attention projections with a bias"),
        ({"hidden_size": "640"}, "hidden_size='640': must be a whole number"),
        ({"hidden_size": 640.5}, "hidden_size=640.5: must be a whole number"),
        ({"num_hidden_layers": True}, "num_hidden_layers=True: must be a whole number"),
        ({"rms_norm_eps": 0}, "rms_norm_eps=0: must be a number above zero"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0: must be 1 to 1024"),
        ({"layer_types": "full_attention"}, "must be a list with one entry per layer"),
        ({"layer_types": ["full_attention"]}, "layer_types has 1 entries, but num_hidden_layers="),
        (
            {"layer_types": ["linear_attention"], "num_hidden_layers": 1},
            "layer_types[0]='linear_attention' is not supported",
        ),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4}}, "rope_type 'yarn'; only 'default'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "linear RoPE scaling needs a factor"),
        ({"rope_scaling": [8]}, "must be an object in braces"),
        (
            {"rope_scaling": {"rope_type": "default", "partial_rotary_factor": 0.25}},
            "partial rotation is not supported",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(
    family: str, published: dict[str, Any], expected: str
) -> None:
    assert expected in refusal(family, **published)


@pytest.mark.parametrize("family", ["gemma2", "gemma3", "gemma3_text"])
@pytest.mark.parametrize(
    ("published", "expected"),
    [
        ({"hidden_activation": "gelu"}, "hidden_activation='gelu': another activation"),
        ({"use_bidirectional_attention": True}, "an encoder, not a language model"),
        ({"sliding_window": None}, "there are sliding_attention layers; give their window"),
        ({"sliding_window": 0}, "window=0: a layer must see at least its own token"),
    ],
)
def test_gemma_refuses_by_name(family: str, published: dict[str, Any], expected: str) -> None:
    assert expected in refusal(family, **published)


def test_gemma3_refuses_what_its_published_code_would_ignore() -> None:
    assert "no cap on attention scores" in refusal("gemma3_text", attn_logit_softcapping=50.0)
    assert "no cap on logits" in refusal("gemma3", final_logit_softcapping=30.0)
    assert "another text model" in refusal("gemma3", model_type="llama")
    assert "must stand below" in refusal("gemma3_text", rope_parameters={"rope_theta": 1e4})
    assert "must be at least 1" in refusal("gemma3_text", sliding_window_pattern=0)


def test_qwen3_refuses_by_name() -> None:
    assert "hidden_act='gelu': another activation" in refusal("qwen3", hidden_act="gelu")
    assert "the two must agree" in refusal(
        "qwen3", num_hidden_layers=1, layer_types=["sliding_attention"]
    )
    assert "one RoPE for all layers" in refusal(
        "qwen3", rope_parameters={"full_attention": {"rope_theta": 1e4}}
    )


NUMBERS = [
    ("gemma3_text", "rms_norm_eps"),
    ("gemma3_text", "rope_theta"),
    ("gemma3_text", "rope_local_base_freq"),
    ("gemma3_text", "query_pre_attn_scalar"),
    ("gemma3_text", "final_logit_softcapping"),
    ("gemma3", "rms_norm_eps"),
    ("gemma2", "attn_logit_softcapping"),
    ("gemma2", "final_logit_softcapping"),
    ("qwen3", "rms_norm_eps"),
    ("qwen3", "rope_theta"),
]


@pytest.mark.parametrize("head_dim", [0, -1])
def test_a_head_without_a_size_has_no_scale(head_dim: int) -> None:
    assert f"config.json has head_dim={head_dim}: must be a number above zero" in refusal(
        "qwen3", head_dim=head_dim
    )


@pytest.mark.parametrize(("family", "key"), NUMBERS)
@pytest.mark.parametrize(
    "value", [float("inf"), float("-inf"), float("nan"), 1e300, 1e-320, 10**310, 0, -1.0]
)
def test_a_number_that_no_float32_holds_is_refused(family: str, key: str, value: float) -> None:
    assert f"config.json has {key}=" in refusal(family, **{key: value})
    assert "must be a number above zero that a float32 holds" in refusal(family, **{key: value})


@pytest.mark.parametrize("key", ["rope_theta", "factor"])
def test_a_number_of_a_nested_rope_is_held_to_the_same(key: str) -> None:
    rope = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6, key: float("inf")}
    assert f"has {key}=inf" in refusal("qwen3", rope_scaling=rope)
    nested = {"full_attention": rope}
    assert f"has {key}=inf" in refusal("gemma3_text", rope_parameters=nested)


@pytest.mark.parametrize("name", families.NAMES)
@pytest.mark.parametrize("count", [0, -1, 1025, 2**31, 10**18, 10**310])
def test_a_count_of_layers_that_no_model_has_is_refused_at_once(name: str, count: int) -> None:
    assert "has num_hidden_layers=" in refusal(name, num_hidden_layers=count)


@pytest.mark.parametrize("name", families.NAMES)
@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "head_dim", "intermediate_size"])
def test_a_size_beyond_int32_is_refused(name: str, key: str) -> None:
    assert f"has {key}=2147483648: must be at most 2147483647" in refusal(name, **{key: 2**31})


def test_a_value_is_shown_short_however_long_it_is() -> None:
    for value in ("a" * 5000, ["x"] * 5000, {"k": "v" * 5000}, "\x1b[31m"):
        message = refusal("qwen3", rms_norm_eps=value)
        assert len(message) < 200
        assert message.isprintable()
