"""A bundle as the last commit that wrote format 1 made it, around artifacts of today."""

import json
import shutil
from pathlib import Path
from typing import Any

from pocketlm.edge_build.file_entries import sha256_of
from pocketlm.runtime_py.bundle import read_bundle
from pocketlm.runtime_py.manifest import MANIFEST_NAME, _canonical, _digest
from pocketlm.runtime_py.recorded_settings import SETTINGS

_RECORDED = Path(__file__).with_name("format_1")
FORMAT_1 = (_RECORDED / "manifest.json").read_text(encoding="utf-8")


def signed(document: dict[str, Any]) -> str:
    """Return the text of a manifest with the digest of what it says."""
    unsigned = {key: value for key, value in document.items() if key != "manifest_sha256"}
    return _canonical({**unsigned, "manifest_sha256": _digest(unsigned)})


def in_format_1(bundle: Path, folder: Path) -> Path:
    """Copy the embedded model's bundle with its manifest and settings in format 1.

    Only digests and sizes of files are today's: the digits of golden answers are the processor's.
    """
    shutil.copytree(bundle, folder)
    files = {entry.path: entry for entry in read_bundle(bundle).manifest.files}
    settings = json.loads((_RECORDED / "settings.json").read_text(encoding="utf-8"))
    settings["texts"] = {path: files[path].sha256 for path in settings["texts"]}
    (folder / SETTINGS).write_text(json.dumps(settings), encoding="utf-8")
    document = json.loads(FORMAT_1)
    document["files"] = [_listed(folder, entry["path"]) for entry in document["files"]]
    (folder / MANIFEST_NAME).write_text(signed(document), encoding="utf-8")
    return folder


def _listed(folder: Path, path: str) -> dict[str, object]:
    file = folder / path
    return {"path": path, "sha256": sha256_of(file), "size_bytes": file.stat().st_size}
