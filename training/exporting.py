"""Trained codes and scales → a checkpoint in the format of compressed-tensors, "pack-quantized".

`pocketlm build` and other runtimes read it with the codes and scales as they were trained.
https://github.com/vllm-project/compressed-tensors
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.quantization.recipe import QuantRule, QuantScheme
from pocketlm.edge_build.text.checkpoint_files import CheckpointFiles
from pocketlm.models import families
from pocketlm.models.checkpoint import Checkpoint
from pocketlm.models.formats.compressed_tensors import load_packing
from pocketlm.models.safetensors_files import SINGLE_NAME
from pocketlm.models.tensor_views import view_of

_PACKED_ROWS = 4096


@dataclass(frozen=True)
class TrainedWeights:
    """What training has made, on the CPU.

    Attributes:
        codes: [out, in] int8 and scales [out, groups] float32 of each quantized weight.
        whole: weights that stay in float32; norms hold the family's offset.
    """

    codes: Mapping[str, tuple[Tensor, Tensor]]
    whole: Mapping[str, Tensor]


def refuse_unwritable(checkpoint: Checkpoint, rules: Mapping[str, QuantRule]) -> None:
    """Raise BuildError where a trained checkpoint could not be written."""
    if find_spec("compressed_tensors") is None:
        raise BuildError(
            "qat writes its codes with the package compressed-tensors, not installed; run: "
            "pip install 'pocketlm[training]'"
        )
    names = families.load(checkpoint.config.model_type).tensor_names
    views = {weight: view_of(names, weight) for weight in rules}
    used = [name for view in views.values() for name in view.names]
    for weight, view in views.items():
        plain = len(view.names) == 1 and not view.is_transposed and not view.over_layers
        if not plain or used.count(view.names[0]) > 1:
            raise BuildError(
                f"{weight}: {checkpoint.config.model_type} stores it fused, transposed or in "
                "pieces, which a checkpoint of codes cannot; train another family"
            )


def write_trained(
    checkpoint: Checkpoint,
    rules: Mapping[str, QuantRule],
    trained: TrainedWeights,
    files: CheckpointFiles,
    folder: Path,
) -> None:
    """Write weights, config.json and the text files to a folder."""
    names = families.load(checkpoint.config.model_type).tensor_names
    tensors: dict[str, Tensor] = {}
    for weight in rules:
        published = view_of(names, weight).names[0]
        if weight in trained.whole:
            whole = trained.whole[weight].clone()
            if weight.endswith("norm"):
                whole -= checkpoint.config.norm_weight_offset
            tensors[published] = whole
            continue
        scheme = rules[weight].scheme
        assert scheme is not None, "codes are of a quantized weight"
        tensors |= _packed(published.removesuffix("weight"), scheme, *trained.codes[weight])
    save_file(tensors, folder / SINGLE_NAME, metadata={"format": "pt"})
    for name, content in files.contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    published_config = json.loads(checkpoint.config_json)
    published_config["quantization_config"] = _settings(rules, names)
    text = json.dumps(published_config, indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def _packed(prefix: str, scheme: QuantScheme, codes: Tensor, scales: Tensor) -> dict[str, Tensor]:
    pack = load_packing()
    # The packer widens what it is given to several times its size.
    words = [pack(block, scheme.bits) for block in codes.split(_PACKED_ROWS)]
    return {
        f"{prefix}weight_packed": torch.cat(words),
        f"{prefix}weight_scale": scales.to(torch.bfloat16),
        f"{prefix}weight_shape": torch.tensor(codes.shape),
    }


def _settings(rules: Mapping[str, QuantRule], names: Mapping[str, Any]) -> dict[str, Any]:
    """Return quantization_config: a group of weights for each scheme."""
    by_scheme: dict[tuple[int, int | None], list[str]] = {}
    whole = []
    for weight, rule in rules.items():
        module = view_of(names, weight).names[0].removesuffix(".weight")
        if rule.scheme is not None:
            key = (rule.scheme.bits, rule.scheme.group_size)
            by_scheme.setdefault(key, []).append(module)
        elif not weight.endswith("norm"):
            whole.append(module)
    groups = {
        f"group_{number}": {
            "targets": modules,
            "weights": {
                "num_bits": bits,
                "type": "int",
                "symmetric": True,
                "strategy": "channel" if size is None else "group",
                "group_size": size,
            },
        }
        for number, ((bits, size), modules) in enumerate(by_scheme.items())
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": whole,
    }
