"""What lies in a checkpoint instead of plain weights: codes, adapters, heads of other tasks.

Judged by names, dtypes and shapes; config.json only names the method.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocketlm.models.errors import ModelError, shown
from pocketlm.models.safetensors_files import DTYPE_BYTES, StoredTensor, read_json

ADAPTER_CONFIG = "adapter_config.json"
# What training for another purpose adds to a whole language model, which does not use it.
TRAINING_HEADS = ("v_head.*",)

# Tensors that only such a method writes, beside or in place of weights.
_WRITTEN_BY = {
    "GPTQ or AWQ": r"\.(qweight|qzeros|g_idx)$",
    "bitsandbytes": r"\.(absmax|quant_map|SCB|weight_format)$|\.quant_state\.",
    "FP8 in blocks": r"\.weight_scale_inv$",
    "compressed-tensors": r"\.weight_(packed|scale|zero_point|shape|g_idx|global_scale)$",
    "torchao": r"weight[_:]+(qdata|data|scale|scale_and_zero)$",
    "quanto": r"\.weight\._(data|scale)$",
    "HQQ": r"\.W_q$",
    "MLX": r"\.(scales|biases)$",
}
_ADAPTER = re.compile(r"\.(lora_|base_layer\.|modules_to_save\.|ia3_|lora_magnitude_vector)")
_CLASSIFIER = re.compile(r"(^|\.)(score|classifier|qa_outputs|reward_head|value_head)\.")
_MERGE = (
    "merge it with peft: AutoPeftModelForCausalLM.from_pretrained(FOLDER).merge_and_unload()"
    ".save_pretrained('NEW_FOLDER'), and give that"
)


def refuse_adapter_alone(folder: Path) -> None:
    """Raise ModelError if the folder holds an adapter and no whole model."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return
    others = [p for p in folder.glob("*.safetensors") if not p.name.startswith("adapter_")]
    if others and (folder / "config.json").is_file():
        return
    base = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    raise ModelError(
        f"{folder}: a LoRA adapter of {shown(base or 'another model')}, not a whole model; {_MERGE}"
    )


def refuse_foreign(
    folder: Path, published: Mapping[str, Any], stored: Mapping[str, StoredTensor]
) -> None:
    """Refuse what is no plain language model.

    Raises:
        ModelError: codes of another quantization, an adapter that was not merged, or the head of a
            classifier; says what it is.
    """
    for name in stored:
        if _ADAPTER.search(f".{name}"):
            raise ModelError(
                f"{name}: in {folder}, a part of a LoRA adapter that was not merged; {_MERGE}"
            )
    for name, tensor in stored.items():
        method = _method(name, tensor, published)
        if method is not None:
            raise ModelError(
                f"{folder}: quantized already by {method}: {name} has dtype {tensor.dtype}; give "
                "the checkpoint that it was made from, in BF16, F16 or F32, and a --recipe"
            )
    for name in stored:
        if _CLASSIFIER.search(name):
            raise ModelError(
                f"{name}: in {folder}, the head of a classifier or reward model, which writes no "
                "text; give the checkpoint of a language model"
            )


def notes(published: Mapping[str, Any], stored: Mapping[str, StoredTensor]) -> tuple[str, ...]:
    """Return what is left out of a checkpoint whose weights are sound."""
    found = []
    block = _block(published)
    if block is not None:
        found.append(
            f"config.json has a {block} although no weight is quantized; it is not followed."
        )
    heads = [name for name in stored if name.startswith("v_head.")]
    if heads:
        found.append(f"{', '.join(heads)}: left out, the value head of a training.")
    return tuple(found)


def _method(name: str, tensor: StoredTensor, published: Mapping[str, Any]) -> str | None:
    """Return what quantized a tensor, None for one that is a plain weight or unknown."""
    named = next((m for m, end in _WRITTEN_BY.items() if re.search(end, name)), None)
    block = _block(published)
    if block is None:
        return named
    entry = published[block]
    said = entry.get("quant_method") if isinstance(entry, dict) else None
    is_weight = name.endswith(".weight")
    if named is None and not (is_weight and tensor.dtype not in DTYPE_BYTES):
        return None
    return shown(said) if isinstance(said, str) else named or f"the {block} of config.json"


def _block(published: Mapping[str, Any]) -> str | None:
    for key in ("quantization_config", "compression_config", "quantization"):
        if published.get(key):
            return key
    return None
