"""Manifests of bundles that were only planned: files that tests may put in place, no answers."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from pocketlm.runtime_py.components import DECODER, Component, Signature, TensorSignature
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.manifest import BackendEntry, Manifest
from pocketlm.runtime_py.memory_inputs import MemoryInputs
from pocketlm.runtime_py.memory_model import RunChoices


def manifest_of(inputs: MemoryInputs, models: Mapping[str, str]) -> Manifest:
    """Return a manifest that lists no files yet.

    Args:
        models: path of the artifact by backend.
    """
    return Manifest(
        name=inputs.name,
        model=inputs.model,
        context_length=inputs.context_length,
        prefill_chunk=inputs.prefill_chunk,
        recipe=inputs.recipe,
        bos_id=None,
        stop_ids=(),
        tensors=inputs.tensors,
        backends={
            name: _entry(inputs.backends[name], model, f"golden/{name}.json")
            for name, model in models.items()
        },
        files=(),
        notes=(),
        build={},
        recipe_rules=inputs.recipe_rules,
    )


def _entry(choices: RunChoices, model: str, golden: str) -> BackendEntry:
    signature = Signature(
        (TensorSignature("tokens", "int64", (1, "new")),),
        (TensorSignature("logits", "float32", (1, 1, choices.logits_size)),),
    )
    layers = tuple(range(len(choices.caches)))
    return BackendEntry(
        model=model,
        activation_quantization="none",
        runtime_floor={},
        caches=choices.caches,
        rewind_tokens=None,
        logits_size=choices.logits_size,
        golden=golden,
        components=(Component(DECODER, model, "forward", signature, layers),),
        options=choices.options,
    )


def error_of(document: dict[str, Any]) -> str:
    """Return what reading such a document says is wrong with it."""
    with pytest.raises(RunError) as caught:
        Manifest.from_json(json.dumps(document))
    return str(caught.value)
