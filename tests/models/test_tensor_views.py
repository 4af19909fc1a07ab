"""Families whose published tensors are not one for one ours, and one with a layer of its own."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pocketlm.models import families
from pocketlm.models.checkpoint import Checkpoint, load_decoder, open_checkpoint
from pocketlm.models.errors import ModelError
from pocketlm.models.random_checkpoint import write_random_checkpoint
from pocketlm.models.shapes import shape_of
from pocketlm.models.tensor_views import TensorView, lay_out, published_name
from pocketlm.models.weight_shapes import weight_shapes
from tests.conftest import TINY_PUBLISHED

PUBLISHED = {**TINY_PUBLISHED["qwen3"], "model_type": "toy"}
Tensors = dict[str, torch.Tensor]

HEAD = """
from dataclasses import replace

from pocketlm.models.families import qwen3
from pocketlm.models.family import Family
from pocketlm.models.tensor_views import TensorView


def read_config(published):
    return replace(qwen3.read_config(published), model_type="toy")

"""
VIEWS = """
LAYER = "layers.{layer}."
QKV = TensorView(("model.layers.{layer}.qkv",), is_transposed=True)
GATE_UP = TensorView(("model.layers.{layer}.gate_up",))
VIEWS = {
    "attention.v_proj": QKV,
    "attention.q_proj": QKV,
    "attention.k_proj": QKV,
    "mlp.gate_proj": GATE_UP,
    "mlp.up_proj": GATE_UP,
    "mlp.down_proj": TensorView(("model.layers.{layer}.down.0", "model.layers.{layer}.down.1")),
    "attention.o_proj": TensorView(("model.every_o",), is_transposed=True, over_layers=True),
    "attention_norm": TensorView(("model.every_norm",), over_layers=True),
}
views = {LAYER + name: view for name, view in VIEWS.items()}
names = {n: t for n, t in qwen3.FAMILY.tensor_names.items() if n not in views}
FAMILY = Family("toy", read_config, {**names, **views})
"""
OWN_LAYER = """
def make_layer(config, index):
    from torch import nn
    from pocketlm.models.layers import DecoderLayer

    class Doubled(DecoderLayer):
        def __init__(self, config, layer):
            super().__init__(config, layer)
            self.again_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

        def forward(self, x, step):
            return self.again_proj(super().forward(x, step))

    return Doubled(config, index)


again = {"layers.{layer}.again_proj": "model.layers.{layer}.again.weight"}
FAMILY = Family("toy", read_config, {**qwen3.FAMILY.tensor_names, **again}, layer=make_layer)
"""


@pytest.fixture
def add_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Add the family "toy", in a folder of its own."""
    folder = tmp_path / "families"
    folder.mkdir()

    def add(text: str) -> None:
        (folder / "toy.py").write_text(HEAD + text)
        monkeypatch.setattr(families, "__path__", [*families.__path__, str(folder)])
        monkeypatch.setattr(families, "NAMES", (*families.NAMES, "toy"))

    yield add
    sys.modules.pop("pocketlm.models.families.toy", None)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    write_random_checkpoint(shape_of("tiny", TINY_PUBLISHED["qwen3"]), tmp_path / "plain", 3)
    return tmp_path / "plain"


def rearranged(plain: Path, folder: Path, change: Callable[[Tensors], None]) -> Path:
    """Write a checkpoint of the family "toy" with the weights of a plain one."""
    tensors = load_file(plain / "model.safetensors")
    change(tensors)
    folder.mkdir()
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(json.dumps(PUBLISHED))
    return folder


def fuse(tensors: Tensors) -> None:
    layers = range(PUBLISHED["num_hidden_layers"])
    outputs, norms = [], []
    for layer in layers:

        def taken(name: str, layer: int = layer) -> torch.Tensor:
            return tensors.pop(f"model.layers.{layer}.{name}.weight")

        qkv = [taken(f"self_attn.{name}_proj") for name in ("v", "q", "k")]
        tensors[f"model.layers.{layer}.qkv"] = torch.cat(qkv).T
        gate_up = [taken(f"mlp.{name}_proj") for name in ("gate", "up")]
        tensors[f"model.layers.{layer}.gate_up"] = torch.cat(gate_up)
        for index, half in enumerate(taken("mlp.down_proj").chunk(2)):
            tensors[f"model.layers.{layer}.down.{index}"] = half
        outputs.append(taken("self_attn.o_proj").T)
        norms.append(taken("input_layernorm"))
    tensors["model.every_o"], tensors["model.every_norm"] = torch.stack(outputs), torch.stack(norms)


def logits(checkpoint: Checkpoint) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = load_decoder(checkpoint)(torch.arange(20)[None])
    return found


def test_weights_in_views_of_tensors_are_the_plain_ones(
    add_family: Callable[[str], None], plain: Path, tmp_path: Path
) -> None:
    add_family(VIEWS)
    expected = open_checkpoint(plain)
    found = open_checkpoint(rearranged(plain, tmp_path / "fused", fuse))
    assert torch.equal(logits(found), logits(expected))
    assert (found.shapes, found.size_bytes) == (expected.shapes, expected.size_bytes)
    for name in ("layers.1.attention.k_proj", "layers.1.mlp.down_proj", "layers.1.mlp.up_proj"):
        middle = found.shape(name)[0] // 2
        rows = (middle - 3, middle + 4)
        assert torch.equal(found.read_rows(name, *rows), expected.read_rows(name, *rows)), name


def test_the_digest_sees_a_change_in_a_transposed_part(
    add_family: Callable[[str], None], plain: Path, tmp_path: Path
) -> None:
    add_family(VIEWS)
    first = open_checkpoint(rearranged(plain, tmp_path / "fused", fuse)).digest()
    assert open_checkpoint(tmp_path / "fused").digest() == first

    def change(tensors: Tensors) -> None:
        fuse(tensors)
        tensors["model.layers.1.qkv"][0, -1] += 1

    assert open_checkpoint(rearranged(plain, tmp_path / "other", change)).digest() != first


@pytest.mark.parametrize("name", ["model.layers.1.qkv", "model.layers.0.gate_up", "model.every_o"])
def test_a_tensor_with_too_few_rows_for_its_weights_is_refused(
    add_family: Callable[[str], None], plain: Path, tmp_path: Path, name: str
) -> None:
    add_family(VIEWS)

    def change(tensors: Tensors) -> None:
        fuse(tensors)
        tensors[name] = tensors[name][:, :-1] if name.endswith("qkv") else tensors[name][:-1]

    message = (
        rf"{name}: shape \[.*\] in model.safetensors, but config.json makes it \[.*\]; the two"
    )
    with pytest.raises(ModelError, match=message):
        open_checkpoint(rearranged(plain, tmp_path / "fused", change))


def test_rows_that_tensors_cannot_share_are_refused() -> None:
    names = {"norm": TensorView(("a", "b", "c"))}
    with pytest.raises(ModelError, match=r"norm: has 8 rows, which 3 tensors \(a, b, c\) cannot"):
        lay_out(names, {"norm": (8,)})


def test_a_familys_own_layer_is_built_and_its_weights_are_known(
    add_family: Callable[[str], None], plain: Path, tmp_path: Path
) -> None:
    add_family(OWN_LAYER)
    hidden = PUBLISHED["hidden_size"]

    def change(tensors: Tensors) -> None:
        for layer in range(PUBLISHED["num_hidden_layers"]):
            tensors[f"model.layers.{layer}.again.weight"] = 2 * torch.eye(hidden)

    checkpoint = open_checkpoint(rearranged(plain, tmp_path / "own", change))
    shapes = weight_shapes(checkpoint.config)
    assert shapes["layers.1.again_proj"] == (hidden, hidden)
    assert published_name(families.load("toy").tensor_names, "layers.1.again_proj") in (
        "model.layers.1.again.weight"
    )
    decoder = load_decoder(checkpoint)
    assert torch.equal(decoder.layers[1].again_proj.weight, 2 * torch.eye(hidden))
    assert not torch.allclose(logits(checkpoint), logits(open_checkpoint(plain)))
