"""What of a bundle decides its memory: one small value, of a bundle that is built or only planned.

A build's plan makes one of shapes (`edge_build/planned_bundle.py`); here one is made of a manifest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pocketlm.runtime_py.manifest import BackendEntry, Manifest, RecipeRule, TensorEntry
from pocketlm.runtime_py.memory_model import RunChoices


@dataclass(frozen=True)
class MemoryInputs:
    """The numbers of a bundle.

    Attributes:
        model: the ModelConfig in plain JSON, as a manifest has it.
        recipe: name of the recipe that made the tensors, for who plans others.
        recipe_rules: of that recipe; empty in bundles that are older.
        backends: choices by backend name.
    """

    name: str
    model: Mapping[str, Any]
    context_length: int
    prefill_chunk: int
    recipe: str
    recipe_rules: tuple[RecipeRule, ...]
    tensors: tuple[TensorEntry, ...]
    backends: Mapping[str, RunChoices]

    @property
    def vocab_size(self) -> int:
        """Rows of logits: token ids are 0 to this, exclusive."""
        return int(self.model["vocab_size"])

    @classmethod
    def of(cls, manifest: Manifest) -> "MemoryInputs":
        """Return what a built bundle's manifest says."""
        return cls(
            name=manifest.name,
            model=manifest.model,
            context_length=manifest.context_length,
            prefill_chunk=manifest.prefill_chunk,
            recipe=manifest.recipe,
            recipe_rules=manifest.recipe_rules,
            tensors=manifest.tensors,
            backends={name: _choices(entry) for name, entry in manifest.backends.items()},
        )


def _choices(entry: BackendEntry) -> RunChoices:
    planned = [c.planned_bytes for c in entry.components if c.planned_bytes is not None]
    return RunChoices(
        caches=entry.caches,
        options=entry.options,
        logits_size=entry.logits_size,
        logits_rows=entry.logits_rows,
        planned_bytes=sum(planned) if planned else None,
    )
