"""Made-up manifests, without files and answers, and what reading a damaged one says."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from pocketlm.runtime_py.components import DECODER, Component, Signature, TensorSignature
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.manifest import BackendEntry, Manifest
from pocketlm.runtime_py.memory_inputs import MemoryInputs
from pocketlm.runtime_py.memory_model import RunChoices

# What a test does not speak of; the rest it puts in its place.
BARE_MANIFEST = Manifest(
    name="tiny",
    model={},
    context_length=64,
    prefill_chunk=5,
    recipe="",
    bos_id=None,
    stop_ids=(),
    tensors=(),
    backends={},
    files=(),
    notes=(),
    build={},
)


def manifest_of(inputs: MemoryInputs, models: Mapping[str, str]) -> Manifest:
    """Return the manifest of a bundle that was only planned: it lists no files yet.

    Args:
        models: path of the artifact by backend.
    """
    return replace(
        BARE_MANIFEST,
        name=inputs.name,
        model=inputs.model,
        context_length=inputs.context_length,
        prefill_chunk=inputs.prefill_chunk,
        recipe=inputs.recipe,
        tensors=inputs.tensors,
        backends={
            name: _entry(inputs.backends[name], model, f"golden/{name}.json")
            for name, model in models.items()
        },
        recipe_rules=inputs.recipe_rules,
    )


def decoder_component(file: str, logits_size: int, layers: int) -> Component:
    """Return a component that is all there is of a model."""
    signature = Signature(
        (TensorSignature("tokens", "int64", (1, "new")),),
        (TensorSignature("logits", "float32", (1, 1, logits_size)),),
    )
    return Component(DECODER, file, "forward", signature, tuple(range(layers)))


def error_of(document: dict[str, Any]) -> str:
    """Return what reading such a document says is wrong with it."""
    with pytest.raises(RunError) as caught:
        Manifest.from_json(json.dumps(document))
    return str(caught.value)


def _entry(choices: RunChoices, model: str, golden: str) -> BackendEntry:
    return BackendEntry(
        model=model,
        activation_quantization="none",
        runtime_floor={},
        caches=choices.caches,
        rewind_tokens=None,
        logits_size=choices.logits_size,
        logits_rows=choices.logits_rows,
        golden=golden,
        components=(decoder_component(model, choices.logits_size, len(choices.caches)),),
        options=choices.options,
    )
