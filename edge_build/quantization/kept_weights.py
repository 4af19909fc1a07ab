"""Weights that an interrupted build had quantized already: a later run takes them over."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pocketlm.edge_build.file_entries import sha256_of
from pocketlm.edge_build.stages import keep_parts
from pocketlm.runtime_py.manifest import FileEntry, TensorEntry
from pocketlm.runtime_py.typed_json import FieldError, load_object, read_as

_RECORD_END = ".quantized.json"


@dataclass(frozen=True)
class _WeightRecord:
    entry: TensorEntry
    files: tuple[FileEntry, ...]


@dataclass(frozen=True)
class KeptWeights:
    """A record beside each weight's files, written when they are complete.

    Attributes:
        folder: of the store; what lies there with records is of this very build.
    """

    folder: Path

    @classmethod
    def of_build(cls, folder: Path, key: str) -> "KeptWeights":
        """Mark a stage's folder, so that its parts outlive an interruption."""
        keep_parts(folder, key)
        return cls(folder)

    def read(self, name: str) -> TensorEntry | None:
        """Return what became of a weight; None where it is missing or damaged."""
        try:
            text = (self.folder / f"{name}{_RECORD_END}").read_text(encoding="utf-8")
            record = read_as(_WeightRecord, load_object(text))
            same = all(sha256_of(self.folder / f.path) == f.sha256 for f in record.files)
        except (OSError, ValueError, FieldError):
            return None
        return record.entry if same else None

    def write(self, entry: TensorEntry) -> None:
        """Record a weight whose files are complete."""
        files = [
            path
            for part in ("codes", "scales", "zero_points", "float")
            if (path := self.folder / f"{entry.name}.{part}.npy").exists()
        ]
        entries = tuple(FileEntry(p.name, sha256_of(p), p.stat().st_size) for p in files)
        path = self.folder / f"{entry.name}{_RECORD_END}"
        writing = path.with_suffix(".writing")
        writing.write_text(json.dumps(asdict(_WeightRecord(entry, entries))), encoding="utf-8")
        writing.rename(path)
