"""A copy of a bundle that is made wrong on purpose, and what `verify` finds in it.

Whoever made such a bundle would have repaired its digests, so every file's and the manifest's are.
"""

import hashlib
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pocketlm.runtime_py.bundle import open_bundle
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.manifest import MANIFEST_NAME, BackendEntry, FileEntry
from pocketlm.runtime_py.verification import verify
from pocketlm.runtime_py.verification_result import VerificationResult

# Why verify misses a fault.
BELOW_FLOAT_NOISE = "it changes no logit by more than the order of float sums does"
NEVER_FED = "the result says how many rows none feeds; here the head has rows of its own"

_ALL_EXACT = "exact logits, exact median error, exact mean error"
# Changes numbers in place.
Change = Callable[[NDArray[Any]], object]


class BundleCopy(ABC):
    """A copy whose files and manifest can be changed; a subclass opens a backend's artifact.

    Attributes:
        changes: of the manifest's fields.
        written: files that are no longer what they were.
    """

    backend: str

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.folder = Path(shutil.copytree(bundle, folder))
        self.manifest = open_bundle(bundle, check_hashes=False).manifest
        self.changes: dict[str, Any] = {}
        self.written: set[str] = set()

    @property
    def artifact(self) -> Path:
        return self.folder / self.manifest.backends[self.backend].model

    @abstractmethod
    def write_artifact(self) -> None:
        """Write the artifact as it is now."""

    def local_layers(self) -> list[int]:
        caches = self.manifest.backends[self.backend].caches
        return [layer for layer, cache in enumerate(caches) if cache.window is not None]

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.unlink()
        path.write_text(text, encoding="utf-8")
        self.written.add(name)

    def change_document(self, name: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change a JSON file."""
        document = json.loads((self.folder / name).read_text())
        change(document)
        self.write(name, json.dumps(document))

    def change_entry(self, change: Callable[[BackendEntry], BackendEntry]) -> None:
        """Change what the manifest says of the artifact."""
        backends = dict(self.manifest.backends)
        self.changes["backends"] = {**backends, self.backend: change(backends[self.backend])}

    def finish(self) -> Path:
        """Write the artifact, and digests of everything as it is now."""
        self.artifact.unlink()
        self.write_artifact()
        self.written.add(self.manifest.backends[self.backend].model)
        files = tuple(
            self._entry(file) if file.path in self.written else file for file in self.manifest.files
        )
        manifest = replace(self.manifest, files=files, **self.changes)
        (self.folder / MANIFEST_NAME).unlink()
        (self.folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
        return self.folder

    def _entry(self, file: FileEntry) -> FileEntry:
        data = (self.folder / file.path).read_bytes()
        return FileEntry(file.path, hashlib.sha256(data).hexdigest(), len(data))


Copied = TypeVar("Copied", bound=BundleCopy, contravariant=True)


@dataclass(frozen=True)
class Corruption(Generic[Copied]):
    """One fault.

    Attributes:
        what: the same words for the same fault of another backend.
        missed: why verify cannot see it; empty where it must.
    """

    what: str
    apply: Callable[[Copied], object]
    missed: str = ""


def result_on(copy: Copied, corruption: Corruption[Copied]) -> VerificationResult | None:
    """Return what verify finds in a corrupted copy; None if it cannot even be opened."""
    corruption.apply(copy)
    try:
        return verify(open_bundle(copy.finish()), copy.backend, threads=1)
    except RunError:
        return None
    finally:
        shutil.rmtree(copy.folder)


def table_row(corruption: Corruption[Any], found: VerificationResult | None) -> str:
    """Return a line of the table in docs/numerics.md."""
    if found is None:
        return f"| {corruption.what} | refused | | |"
    checks = ", ".join(dict.fromkeys(mismatch.check for mismatch in found.mismatches))
    checks = checks.replace(_ALL_EXACT, "exact logits, median and mean")
    outcome = f"missed: {corruption.missed}" if found.passed else f"caught: {checks}"
    errors = (found.max_logit_error_std, found.strict.max_logit_error_std)
    return f"| {corruption.what} | {' | '.join(f'{error:.2g}' for error in errors)} | {outcome} |"


def times(place: Any, factor: float) -> Change:
    def change(values: NDArray[Any]) -> None:
        values[place] = (values[place] * factor).astype(values.dtype)

    return change


def exchange(first: Any, second: Any) -> Change:
    def change(values: NDArray[Any]) -> None:
        values[first], values[second] = values[second].copy(), values[first].copy()

    return change


def flip(place: Any, bits: int) -> Change:
    def change(values: NDArray[Any]) -> None:
        values[place] ^= bits

    return change


def noise(generator: np.random.Generator, deviation: float) -> Change:
    """Multiply each number by another one near 1."""

    def change(values: NDArray[Any]) -> None:
        factors = generator.normal(1, deviation, values.shape)
        values *= factors.astype(values.dtype)

    return change
