"""golden/settings.json: what a bundle says besides logits, recorded when it was built.

Sampling defaults, the files of stock runners, beginnings and stops, and how each artifact keeps its
caches stand in files and in the manifest. Their digests say that a file is what the manifest lists,
not that both are what was built.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pocketlm.runtime_py.manifest import Manifest
from pocketlm.runtime_py.manifest_upgrade import upgrade_format_1
from pocketlm.runtime_py.recorded_document import read_recorded

GOLDEN_FOLDER = "golden"
SETTINGS = f"{GOLDEN_FOLDER}/settings.json"
_FORMAT_VERSION = 2
# What differs between two builds of the same, is held elsewhere, or came later and decides no
# answer: a reader that does not know it would miss it.
_NOT_RECORDED = (
    "files",
    "tensors",
    "build",
    "notes",
    "readings",
    "format_version",
    "recipe_rules",
)


@dataclass(frozen=True)
class RecordedSettings:
    """What was built.

    Attributes:
        manifest: the manifest's own document without lists of files and tensors.
        texts: sha256 of every file besides artifacts and golden answers, by path: tokenizers,
            template, sampling defaults, configurations of stock runners.
    """

    manifest: Mapping[str, Any]
    texts: Mapping[str, str]
    format_version: int = _FORMAT_VERSION

    @classmethod
    def of(cls, manifest: Manifest) -> "RecordedSettings":
        """Return what a bundle with this manifest would record."""
        document = json.loads(json.dumps(asdict(manifest)))
        for name in _NOT_RECORDED:
            document.pop(name, None)
        held_elsewhere = (
            f"{GOLDEN_FOLDER}/",
            *(entry.model for entry in manifest.backends.values()),
        )
        texts = {
            file.path: file.sha256
            for file in manifest.files
            if not file.path.startswith(held_elsewhere)
        }
        return cls(document, texts)

    def to_json(self) -> str:
        """Return the file's text: sorted keys, equal values are equal bytes."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "RecordedSettings":
        """Read the file's text strictly.

        Raises:
            RunError: another format version, or a missing or wrong field.
        """
        return read_recorded(cls, text, _FORMAT_VERSION, SETTINGS, {1: _upgrade})


def _upgrade(document: dict[str, Any]) -> dict[str, Any]:
    """Version 1 has a manifest of format 1."""
    manifest = document.get("manifest")
    if isinstance(manifest, Mapping):
        manifest = upgrade_format_1(manifest)
        manifest = {key: value for key, value in manifest.items() if key not in _NOT_RECORDED}
    return {**document, "manifest": manifest, "format_version": _FORMAT_VERSION}


def differences(
    recorded: RecordedSettings, found: RecordedSettings
) -> Iterator[tuple[str, str, str]]:
    """Yield (place, recorded, found) of everything that differs.

    What a later version's manifest says besides was not recorded and does not count.
    """
    yield from _differences("", recorded.manifest, found.manifest)
    for name in sorted({*recorded.texts, *found.texts}):
        yield from _differences(name, recorded.texts.get(name), found.texts.get(name))


def _differences(place: str, recorded: Any, found: Any) -> Iterator[tuple[str, str, str]]:
    if isinstance(recorded, Mapping) and isinstance(found, Mapping):
        for key, value in recorded.items():
            yield from _differences(f"{place}.{key}".lstrip("."), value, found.get(key))
    elif isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found):
        for index, pair in enumerate(zip(recorded, found, strict=True)):
            yield from _differences(f"{place}[{index}]", *pair)
    elif recorded != found:
        yield place, _shown(recorded), _shown(found)


def _shown(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value)
