"""Converts documents of bundle format 1 to format 2; no other module reads format 1."""

from collections.abc import Mapping
from typing import Any

from pocketlm.runtime_py.components import DECODER

# The line of a memory plan that the artifact itself decided; all others follow from shapes.
_PLANNED = "activations between delegates"
# What format 1 says once for all layers.
_OF_LAYERS = ("num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size")


def upgrade_format_1(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document of format 2 that says what a document of format 1 says.

    It may be a part of a manifest, as golden/settings.json records. What is not as format 1 has it
    stays, so that the reader of format 2 names it.
    """
    upgraded = {**document, "format_version": 2}
    if isinstance(document.get("model"), Mapping):
        upgraded["model"] = _in_layers(document["model"])
    backends = document.get("backends")
    if isinstance(backends, dict):
        upgraded["backends"] = {name: _backend(entry) for name, entry in backends.items()}
    return upgraded


def _backend(entry: Any) -> Any:
    """Add the one component that there was; what it takes and gives was not recorded."""
    if not isinstance(entry, dict):
        return entry
    caches = entry.get("caches")
    decoder = {
        "name": DECODER,
        "file": entry.get("model"),
        "entry_point": None,
        "signature": None,
        "caches": list(range(len(caches))) if isinstance(caches, list) else [],
        "planned_bytes": _planned_bytes(entry.get("memory_plan")),
    }
    kept = {key: value for key, value in entry.items() if key != "memory_plan"}
    return {**kept, "components": [decoder]}


def _planned_bytes(plan: Any) -> Any:
    lines = plan if isinstance(plan, list) else []
    sizes = [line.get("size_bytes") for line in lines if _is_planned(line)]
    return sizes[0] if sizes else None


def _is_planned(line: Any) -> bool:
    return isinstance(line, dict) and line.get("part") == _PLANNED


def _in_layers(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a model with the sizes of its layers in each layer."""
    layers = model.get("layers")
    if not isinstance(layers, list):
        return model
    sizes = {name: model[name] for name in _OF_LAYERS if name in model}
    others = {name: value for name, value in model.items() if name not in sizes}
    added = {**sizes, "rotary_dim": None, "kv_from": None}
    moved = [{**added, **layer} if isinstance(layer, dict) else layer for layer in layers]
    return {**others, "layers": moved}
