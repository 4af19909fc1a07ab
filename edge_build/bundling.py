"""What the stages made → a bundle with text files and manifest.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pocketlm.edge_build.backend import Artifact
from pocketlm.edge_build.file_entries import file_entries
from pocketlm.edge_build.installation import tool_versions
from pocketlm.edge_build.kv_measuring import KvMeasurements
from pocketlm.edge_build.mixed_precision.recipe_writing import RECIPE_NAME
from pocketlm.edge_build.model_document import model_document
from pocketlm.edge_build.preparation import Preparation
from pocketlm.edge_build.quantization import recipes
from pocketlm.edge_build.quantization.quality import kept_grid_notes
from pocketlm.edge_build.runner_files.writing import write_runner_files
from pocketlm.models.hub import checkpoint_name, hub_origin
from pocketlm.runtime_py.kv_choice import KvMeasured
from pocketlm.runtime_py.lint.comparison import read_alike
from pocketlm.runtime_py.manifest import (
    MANIFEST_NAME,
    BackendEntry,
    FileEntry,
    Manifest,
    TensorEntry,
)
from pocketlm.runtime_py.readings import Readings, reading_notes
from pocketlm.runtime_py.recorded_settings import SETTINGS, RecordedSettings


@dataclass(frozen=True)
class StagedParts:
    """What the stages of a build made.

    Attributes:
        goldens: backend name → path of its golden answers, relative to the bundle.
        kv: what `--kv auto` chose among.
        files: of every stage whose files go into the bundle.
        notes: what the golden answers do not touch.
    """

    checkpoint_sha256: str
    tensors: Sequence[TensorEntry]
    artifacts: Mapping[str, Artifact]
    goldens: Mapping[str, str]
    kv: KvMeasurements
    files: Sequence[FileEntry]
    notes: Sequence[str] = ()


def write_text(prepared: Preparation, bundle: Path) -> Readings:
    """Make the folder `bundle` with its text files, and let the installed runtimes read them."""
    text = prepared.text
    bundle.mkdir()
    text.copy_to(bundle)
    if prepared.recipe_toml is not None:
        (bundle / RECIPE_NAME).write_text(prepared.recipe_toml, encoding="utf-8")
    expected = write_runner_files(
        bundle, prepared.backends, text.chat_template, text.special_tokens, text.stop_ids
    )
    return read_alike(bundle, expected=expected)


def write_manifest(
    prepared: Preparation, parts: StagedParts, readings: Readings, bundle: Path
) -> Manifest:
    """Write manifest.json, which lists what lies in `bundle` and the files of `parts`."""
    checkpoint, text = prepared.checkpoint, prepared.text
    notes, files = prepared.notes, (*file_entries(bundle), *parts.files)
    manifest = Manifest(
        name=prepared.spec.name or checkpoint_name(checkpoint.folder),
        # Through JSON, so that what was written equals what will be read.
        model=model_document(checkpoint.config),
        context_length=prepared.caches.context_length,
        prefill_chunk=prepared.caches.chunk,
        recipe=prepared.recipe.name,
        bos_id=text.bos_id,
        stop_ids=text.stop_ids,
        tensors=tuple(parts.tensors),
        backends={
            name: backend_entry(artifact, parts.goldens[name], parts.kv.tried.get(name, ()))
            for name, artifact in parts.artifacts.items()
        },
        files=tuple(sorted(files, key=lambda file: file.path)),
        notes=(
            *notes,
            *kept_grid_notes(parts.tensors),
            *parts.notes,
            *reading_notes(readings),
        ),
        readings=readings,
        recipe_rules=recipes.recorded(prepared.recipe),
        build={
            **tool_versions(),
            **_origin(checkpoint.folder),
            "checkpoint_sha256": parts.checkpoint_sha256,
        },
    )
    manifest = _with_settings(manifest, bundle)
    (bundle / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def backend_entry(
    artifact: Artifact, golden: str, kv_measured: tuple[KvMeasured, ...] = ()
) -> BackendEntry:
    """Return what a manifest says of an artifact.

    Args:
        golden: path of its golden answers, relative to the bundle.
    """
    return BackendEntry(
        model=artifact.model,
        activation_quantization=artifact.activation_quantization,
        runtime_floor=dict(artifact.runtime_floor),
        caches=artifact.caches,
        rewind_tokens=artifact.rewind_tokens,
        logits_size=artifact.logits_size,
        logits_rows=artifact.logits_rows,
        golden=golden,
        components=artifact.components,
        options=dict(artifact.options),
        attention_quantization=artifact.attention_quantization,
        kv_measured=kv_measured,
    )


def _origin(checkpoint: Path) -> dict[str, str]:
    """Return id and commit of what came from a hub; where a folder lies is nobody's business."""
    origin = hub_origin(checkpoint)
    return {} if origin is None else {"hub_id": origin.hub_id, "hub_revision": origin.commit}


def _with_settings(manifest: Manifest, bundle: Path) -> Manifest:
    """Record what the bundle says besides logits, and list the record among its files."""
    path = bundle / SETTINGS
    path.parent.mkdir()
    path.write_text(RecordedSettings.of(manifest).to_json(), encoding="utf-8")
    recorded = [file for file in file_entries(bundle) if file.path == SETTINGS]
    files = sorted((*manifest.files, *recorded), key=lambda file: file.path)
    return replace(manifest, files=tuple(files))
