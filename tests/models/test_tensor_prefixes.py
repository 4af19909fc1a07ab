"""Weights under the names that wrappers of training tools give them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pocketlm.models.checkpoint import open_checkpoint
from pocketlm.models.errors import ModelError

Change = Callable[[Callable[[dict[str, torch.Tensor]], None]], None]


def renamed(rename: Callable[[str], str]) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[rename(name)] = tensors.pop(name)

    return change


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", "_orig_mod."),
        ("", "module."),
        ("", "base_model.model."),
        ("", "module._orig_mod."),
        ("", "language_model."),
        ("model.", "model.language_model."),
        ("model.", ""),
    ],
)
def test_weights_under_another_prefix_are_read_as_they_are_without(
    small_checkpoint: Path, change_tensors: Change, old: str, new: str
) -> None:
    plain = open_checkpoint(small_checkpoint).digest()
    change_tensors(renamed(lambda name: new + name.removeprefix(old)))
    found = open_checkpoint(small_checkpoint)
    assert found.digest() == plain
    begin = f"{new}model." if not old else new
    assert f"The weights are read under {begin!r}" in found.notes[0]


def test_a_head_under_the_prefix_is_read(small_checkpoint: Path, change_tensors: Change) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        renamed(lambda name: f"module.{name}")(tensors)

    change_tensors(change)
    notes = open_checkpoint(small_checkpoint).notes
    assert notes[1] == "module.lm_head.weight is left out: it repeats the embedding."


def test_a_weight_that_is_missing_under_the_prefix_is_named_with_it(
    small_checkpoint: Path, change_tensors: Change
) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["model.norm.weight"]
        renamed(lambda name: f"_orig_mod.{name}")(tensors)

    change_tensors(change)
    with pytest.raises(
        ModelError, match=r"^_orig_mod\.model\.norm\.weight: missing from .*'model\.'"
    ):
        open_checkpoint(small_checkpoint)


def test_two_models_in_one_file_are_not_mixed(
    small_checkpoint: Path, change_tensors: Change
) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[f"student.{name}"] = tensors[name].clone()
            tensors[f"teacher.{name}"] = tensors.pop(name)

    change_tensors(change)
    with pytest.raises(ModelError, match=r"^model\.embed_tokens\.weight: missing"):
        open_checkpoint(small_checkpoint)
