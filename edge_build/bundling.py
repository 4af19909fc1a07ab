"""Files in a folder → a bundle: hashes and manifest.json. Knows no weights and no runtime."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from edge_build.backend import Artifact
from edge_build.preparation import Preparation
from runtime_py.manifest import MANIFEST_NAME, BackendEntry, FileEntry, Manifest, TensorEntry

# Distributions whose versions shape the bytes of an artifact.
_TOOLS = ("pocketlm", "torch", "executorch", "torchao", "onnx", "onnxscript", "numpy")


def write_manifest(
    prepared: Preparation,
    tensors: Sequence[TensorEntry],
    artifacts: Mapping[str, Artifact],
    goldens: Mapping[str, str],
    bundle: Path,
) -> Manifest:
    """Hash every file of `bundle` and write manifest.json beside them.

    Args:
        goldens: backend name → path of its golden answers, relative to the bundle.
    """
    checkpoint, text = prepared.checkpoint, prepared.text
    manifest = Manifest(
        name=checkpoint.folder.resolve().name,
        # Through JSON, so that what was written equals what will be read.
        model=json.loads(json.dumps(asdict(checkpoint.config))),
        context_length=prepared.caches.context_length,
        prefill_chunk=prepared.caches.chunk,
        recipe=prepared.recipe.name,
        bos_id=text.bos_id,
        stop_ids=text.stop_ids,
        tensors=tuple(tensors),
        backends={
            name: _backend_entry(artifact, goldens[name]) for name, artifact in artifacts.items()
        },
        files=_file_entries(bundle),
        notes=(*checkpoint.notes, *text.notes),
        build={
            **{tool: version(tool) for tool in _TOOLS},
            "checkpoint_sha256": checkpoint.digest(),
        },
    )
    (bundle / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _backend_entry(artifact: Artifact, golden: str) -> BackendEntry:
    return BackendEntry(
        model=artifact.model,
        activation_quantization=artifact.activation_quantization,
        runtime_floor=dict(artifact.runtime_floor),
        caches=artifact.caches,
        rewind_tokens=artifact.rewind_tokens,
        logits_size=artifact.logits_size,
        golden=golden,
        memory_plan=artifact.memory_plan,
        options=dict(artifact.options),
    )


def _file_entries(bundle: Path) -> tuple[FileEntry, ...]:
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    return tuple(
        FileEntry(path.relative_to(bundle).as_posix(), _sha256(path), path.stat().st_size)
        for path in files
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
