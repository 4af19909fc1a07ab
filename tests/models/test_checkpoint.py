"""Opening a checkpoint: what is read, and what a bad one is told."""

import errno
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pocketlm.models import families
from pocketlm.models.checkpoint import load_decoder, open_checkpoint
from pocketlm.models.errors import ModelError
from pocketlm.models.random_checkpoint import write_random_checkpoint
from pocketlm.models.shapes import Shape

Change = Callable[[Callable[[dict[str, torch.Tensor]], Any]], None]
UP = "model.layers.1.mlp.up_proj.weight"


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as failure:
        open_checkpoint(folder)
    return str(failure.value)


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_weights_are_read_in_float32_under_the_decoders_names(small_checkpoint: Path) -> None:
    checkpoint = open_checkpoint(small_checkpoint)
    stored = load_file(small_checkpoint / "model.safetensors")
    assert checkpoint.read("layers.1.mlp.up_proj").dtype == torch.float32
    assert torch.equal(checkpoint.read("layers.1.mlp.up_proj"), stored[UP].float())
    assert checkpoint.shape("layers.1.mlp.up_proj") == (48, 32)
    assert checkpoint.size_bytes == sum(tensor.nbytes for tensor in stored.values())


def test_norm_weights_come_with_their_offset(small_checkpoint: Path) -> None:
    checkpoint = open_checkpoint(small_checkpoint)
    stored = load_file(small_checkpoint / "model.safetensors")
    for ours, theirs in [
        ("norm", "model.norm"),
        ("layers.0.attention_norm", "model.layers.0.input_layernorm"),
        ("layers.2.attention.q_norm", "model.layers.2.self_attn.q_norm"),
        ("layers.0.mlp_norm", "model.layers.0.pre_feedforward_layernorm"),
    ]:
        # The sum is made in float32: bf16 would round 1 + w to 3 digits.
        assert torch.equal(checkpoint.read(ours), stored[f"{theirs}.weight"].float() + 1)


def test_rows_are_slices_of_the_whole_weight(small_checkpoint: Path) -> None:
    checkpoint = open_checkpoint(small_checkpoint)
    whole = checkpoint.read("embed_tokens")
    for start, stop in [(0, 1), (0, 640), (17, 123), (639, 640), (5, 5)]:
        assert torch.equal(checkpoint.read_rows("embed_tokens", start, stop), whole[start:stop])


def test_reading_in_many_blocks_changes_nothing(
    small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = open_checkpoint(small_checkpoint)
    whole, digest = checkpoint.read("embed_tokens"), checkpoint.digest()
    monkeypatch.setattr("pocketlm.models.stored_weight._BLOCK_BYTES", 100)
    assert torch.equal(checkpoint.read("embed_tokens"), whole)
    assert checkpoint.digest() == digest


def test_reading_rows_costs_memory_for_those_rows_alone(tmp_path: Path, small_shape: Shape) -> None:
    published = {**small_shape.published, "vocab_size": 200_000, "head_dim": 8}
    shape = type(small_shape)(
        "tall", published, families.load("gemma3_text").read_config(published)
    )
    write_random_checkpoint(shape, tmp_path / "tall", layers=1)
    checkpoint = open_checkpoint(tmp_path / "tall")
    tracemalloc.start()
    checkpoint.read_rows("embed_tokens", 1000, 2000)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # 1000 rows of 32 bf16 values are 64 kB; the table is 12.8 MB.
    assert peak_bytes < 1_000_000


def test_a_tied_model_has_no_head_weight(small_checkpoint: Path) -> None:
    checkpoint = open_checkpoint(small_checkpoint)
    assert "lm_head" not in checkpoint.names()
    decoder = load_decoder(checkpoint)
    assert decoder.lm_head.weight is decoder.embed_tokens.weight
    assert not decoder.training
    assert not any(parameter.requires_grad for parameter in decoder.parameters())


def test_a_repeated_head_of_a_tied_model_is_left_out(
    small_checkpoint: Path, change_tensors: Change
) -> None:
    change_tensors(
        lambda tensors: tensors.update(
            {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
        )
    )
    checkpoint = open_checkpoint(small_checkpoint)
    assert "lm_head" not in checkpoint.names()
    assert checkpoint.notes == ("lm_head.weight is left out: it repeats the embedding.",)


def test_a_different_head_of_a_tied_model_is_refused(
    small_checkpoint: Path, change_tensors: Change
) -> None:
    change_tensors(
        lambda tensors: tensors.update({"lm_head.weight": -tensors["model.embed_tokens.weight"]})
    )
    message = refusal(small_checkpoint)
    assert "lm_head.weight: differs from model.embed_tokens.weight" in message
    assert "set it to false in config.json" in message


def test_rotary_buffers_of_old_files_are_ignored(
    small_checkpoint: Path, change_tensors: Change
) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    change_tensors(lambda tensors: tensors.update({name: torch.ones(4)}))
    assert open_checkpoint(small_checkpoint).notes == ()


def test_the_digest_follows_config_and_weights(
    small_checkpoint: Path, change_tensors: Change
) -> None:
    first = open_checkpoint(small_checkpoint).digest()
    assert open_checkpoint(small_checkpoint).digest() == first

    def flip(tensors: dict[str, torch.Tensor]) -> None:
        tensors[UP][0, 0] += 1

    change_tensors(flip)
    second = open_checkpoint(small_checkpoint).digest()
    edit_config(small_checkpoint, rms_norm_eps=1e-5)
    third = open_checkpoint(small_checkpoint).digest()
    assert len({first, second, third}) == 3


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path / 'absent'}: no such folder" in refusal(tmp_path / "absent")


def test_a_file_that_may_not_be_read_is_named(
    small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert "config.json: cannot be read (Permission denied)" in refusal(small_checkpoint)


def test_a_folder_without_config_says_so(tmp_path: Path) -> None:
    assert "no config.json in it" in refusal(tmp_path)


@pytest.mark.parametrize("text", ['{"model_type": ', "\x00", "[" * 100_000])
def test_a_config_that_is_not_json_says_so(small_checkpoint: Path, text: str) -> None:
    (small_checkpoint / "config.json").write_text(text)
    assert "config.json: not valid JSON" in refusal(small_checkpoint)


def test_a_config_that_is_not_text_says_so(small_checkpoint: Path) -> None:
    (small_checkpoint / "config.json").write_bytes(b"\xff\xfe\x00")
    assert "config.json: not valid JSON" in refusal(small_checkpoint)


def test_a_config_that_is_a_list_says_so(small_checkpoint: Path) -> None:
    (small_checkpoint / "config.json").write_text("[]")
    assert "holds a list, not an object" in refusal(small_checkpoint)


def test_an_unknown_model_type_names_the_nearest_and_all(small_checkpoint: Path) -> None:
    edit_config(small_checkpoint, model_type="gemma3n_text")
    message = refusal(small_checkpoint)
    assert "model_type 'gemma3n_text' is not supported" in message
    assert "nearest known is 'gemma3_text'" in message
    assert all(name in message for name in families.NAMES)


def test_a_config_without_model_type_says_which_are_known(small_checkpoint: Path) -> None:
    edit_config(small_checkpoint, model_type=None)
    assert "has model_type=None, but one of gemma2, gemma3" in refusal(small_checkpoint)


def test_a_missing_tensor_is_named(small_checkpoint: Path, change_tensors: Change) -> None:
    change_tensors(lambda tensors: tensors.pop(UP))
    assert f"{UP}: missing from {small_checkpoint}" in refusal(small_checkpoint)


def test_an_unexpected_tensor_is_named(small_checkpoint: Path, change_tensors: Change) -> None:
    name = "model.layers.0.self_attn.q_proj.bias"
    change_tensors(lambda tensors: tensors.update({name: torch.ones(16)}))
    assert f"{name}: in {small_checkpoint}, but config.json has no place" in refusal(
        small_checkpoint
    )


def test_tensors_of_layers_beyond_the_config_are_named(small_checkpoint: Path) -> None:
    edit_config(small_checkpoint, num_hidden_layers=2)
    assert "model.layers.2." in refusal(small_checkpoint)


def test_a_wrong_shape_names_both(small_checkpoint: Path, change_tensors: Change) -> None:
    change_tensors(lambda tensors: tensors.update({UP: tensors[UP].T.contiguous()}))
    assert f"{UP}: shape [32, 48] in model.safetensors, but config.json makes it [48, 32]" in (
        refusal(small_checkpoint)
    )


@pytest.mark.parametrize(("dtype", "found"), [(torch.int8, "I8"), (torch.float64, "F64")])
def test_a_wrong_dtype_names_both(
    small_checkpoint: Path, change_tensors: Change, dtype: torch.dtype, found: str
) -> None:
    change_tensors(lambda tensors: tensors.update({UP: tensors[UP].to(dtype)}))
    message = refusal(small_checkpoint)
    assert f"{UP}: dtype {found} in model.safetensors, but only F32, F16, BF16" in message
