"""A small Gemma-3-shaped checkpoint folder, written anew for each test."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pocketlm.models import shapes
from pocketlm.models.random_checkpoint import write_random_checkpoint

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def small_shape() -> shapes.Shape:
    published = {
        **shapes.load("gemma-3-270m").published,
        "vocab_size": 640,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "head_dim": 8,
        "sliding_window": 8,
        "sliding_window_pattern": 2,
        "max_position_embeddings": 64,
    }
    return shapes.shape_of("small", published)


@pytest.fixture
def small_checkpoint(tmp_path: Path, small_shape: shapes.Shape) -> Path:
    write_random_checkpoint(small_shape, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.fixture
def change_tensors(small_checkpoint: Path) -> Callable[[Callable[[Tensors], Any]], None]:
    """Rewrite the small checkpoint's weights after a change."""

    def change(edit: Callable[[Tensors], Any]) -> None:
        path = small_checkpoint / "model.safetensors"
        tensors = load_file(path)
        edit(tensors)
        save_file(tensors, path)

    return change
