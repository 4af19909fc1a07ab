"""Our float32 Decoder against transformers in float32, with the same random weights.

Every family found by name must have a case here.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pocketlm.models import families
from pocketlm.models.checkpoint import Checkpoint, load_decoder, open_checkpoint

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers")

WINDOW = 8
TOKENS = 4 * WINDOW + 3
VOCAB = 97
# The same graph in the same float32: only the order of sums differs, about 1e-6 of the logits.
TOLERANCE = 1e-4

SMALL: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-3,  # large enough to be missed if it were not read
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
}
LOCAL, GLOBAL = "sliding_attention", "full_attention"
GEMMA3 = dict(
    **SMALL,
    sliding_window=WINDOW,
    layer_types=[LOCAL, GLOBAL, LOCAL, LOCAL, GLOBAL],
    query_pre_attn_scalar=24,
    rope_parameters={
        GLOBAL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
        LOCAL: {"rope_type": "default", "rope_theta": 10_000.0},
    },
)


def gemma3_with_vision() -> Any:
    vision = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
        "vision_use_head": False,
    }
    config = transformers.Gemma3Config(
        text_config=dict(GEMMA3), vision_config=vision, mm_tokens_per_image=4, image_token_index=96
    )
    return transformers.Gemma3ForConditionalGeneration(config)


CASES: dict[str, Callable[[], Any]] = {
    "gemma2": lambda: transformers.Gemma2ForCausalLM(
        transformers.Gemma2Config(**SMALL, sliding_window=WINDOW, query_pre_attn_scalar=24)
    ),
    "gemma3": gemma3_with_vision,
    "gemma3_text": lambda: transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**GEMMA3)),
    "qwen3": lambda: transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(**SMALL, tie_word_embeddings=True)
    ),
}


def randomized(make: Callable[[], Any]) -> Any:
    """Build the reference with every parameter drawn at random, norms included."""
    torch.manual_seed(0)
    model = make().eval()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            matrix = parameter.dim() > 1
            deviation = parameter.shape[-1] ** -0.5 if matrix else 0.3
            if "embed_tokens" in name or "lm_head" in name:
                deviation = 1.0
            parameter.normal_(0.0, deviation)
            if not matrix and "qwen3" in model.config.model_type:
                parameter.add_(1.0)
    return model


def difference(reference: Any, checkpoint: Checkpoint) -> float:
    """Return the largest difference of logits, in standard deviations of the reference's."""
    tokens = torch.randint(3, VOCAB - 1, (2, TOKENS), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = reference(input_ids=tokens).logits
        ours = load_decoder(checkpoint)(tokens)
    return float((ours - expected).abs().max() / expected.std())


@pytest.mark.parametrize("family", families.NAMES)
def test_the_decoder_computes_what_transformers_computes(family: str, tmp_path: Path) -> None:
    assert family in CASES, f"add a tiny transformers model for {family} to CASES"
    reference = randomized(CASES[family])
    reference.save_pretrained(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    if family != "qwen3":
        assert set(checkpoint.config.windows) == {WINDOW, None}
    assert difference(reference, checkpoint) <= TOLERANCE


@pytest.mark.parametrize("family", families.NAMES)
def test_a_sharded_checkpoint_gives_the_same_weights(family: str, tmp_path: Path) -> None:
    reference = randomized(CASES[family])
    reference.save_pretrained(tmp_path / "whole")
    reference.save_pretrained(tmp_path / "sharded", max_shard_size="40KB")
    assert not (tmp_path / "sharded" / "model.safetensors").exists()
    whole, sharded = (open_checkpoint(tmp_path / name) for name in ("whole", "sharded"))
    assert whole.names() == sharded.names()
    for name in whole.names():
        assert torch.equal(whole.read(name), sharded.read(name))
    assert whole.digest() == sharded.digest()


def reread_with_old_keys(
    family: str, folder: Path, old: Mapping[str, Any]
) -> tuple[Any, Checkpoint]:
    """Put a family's older keys in place of layer types and RoPE; read the folder anew."""
    made = randomized(CASES[family])
    made.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["rope_parameters"], config["layer_types"]
    path.write_text(json.dumps({**config, **old}))
    reference = type(made).from_pretrained(folder, attn_implementation="eager")
    return reference.eval(), open_checkpoint(folder)


def test_old_gemma3_keys_mean_what_transformers_takes_them_for(tmp_path: Path) -> None:
    old = {
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window_pattern": 3,
    }
    reference, checkpoint = reread_with_old_keys("gemma3_text", tmp_path, old)
    assert [layer.window for layer in checkpoint.config.layers] == [8, 8, None, 8, 8]
    assert [layer.rope_factor for layer in checkpoint.config.layers] == [1, 1, 8, 1, 1]
    assert difference(reference, checkpoint) <= TOLERANCE


def test_old_gemma2_keys_mean_what_transformers_takes_them_for(tmp_path: Path) -> None:
    reference, checkpoint = reread_with_old_keys("gemma2", tmp_path, {"rope_theta": 20_000.0})
    assert [layer.window for layer in checkpoint.config.layers] == [8, None, 8, None, 8]
    assert difference(reference, checkpoint) <= TOLERANCE


def test_old_qwen3_keys_mean_what_transformers_takes_them_for(tmp_path: Path) -> None:
    old = {
        "rope_theta": 1_000_000.0,
        "rope_scaling": {"type": "linear", "factor": 4.0},
        "use_sliding_window": True,
        "sliding_window": WINDOW,
        "max_window_layers": 3,
    }
    reference, checkpoint = reread_with_old_keys("qwen3", tmp_path, old)
    assert [layer.window for layer in checkpoint.config.layers] == [None, None, None, 8, 8]
    assert difference(reference, checkpoint) <= TOLERANCE


def test_an_untied_head_is_read_as_its_own_weight(tmp_path: Path) -> None:
    reference = randomized(
        lambda: transformers.Qwen3ForCausalLM(
            transformers.Qwen3Config(**SMALL, tie_word_embeddings=False)
        )
    )
    reference.save_pretrained(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    assert "lm_head" in checkpoint.names()
    assert difference(reference, checkpoint) <= TOLERANCE


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_both_spellings_of_gemma3_with_vision_are_read(prefix: str, tmp_path: Path) -> None:
    reference = randomized(CASES["gemma3"])
    reference.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = {
        name.replace("language_model.model.", "model.language_model.").replace(
            "model.language_model.", prefix
        ): tensor
        for name, tensor in load_file(path).items()
    }
    assert any(name.startswith(prefix) for name in tensors)
    assert any("vision_tower" in name for name in tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.notes == ("The vision tower is left out: the bundle takes text only.",)
    assert difference(reference, checkpoint) <= TOLERANCE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_widened_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    randomized(CASES["gemma3_text"]).to(dtype).save_pretrained(tmp_path)
    reference = transformers.Gemma3ForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, attn_implementation="eager"
    )
    assert difference(reference.eval(), open_checkpoint(tmp_path)) <= TOLERANCE
