"""A bundle folder on disk, opened and checked."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.manifest import MANIFEST_NAME, BackendEntry, FileEntry, Manifest
from pocketlm.runtime_py.typed_json import FieldError, load_object

# (bytes done, bytes in all, file being read)
Advance = Callable[[int, int, str], None]

_BLOCK_BYTES = 1 << 20
_COPY_AGAIN = "copy the bundle again or build it again"


def silent(done: int, total: int, path: str) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest was read; `check` says whether the files are what it lists."""

    folder: Path
    manifest: Manifest

    def path(self, relative: str) -> Path:
        """Return where a file of the bundle lies.

        Raises:
            RunError: the manifest does not list it, it is not there, or a link leads outside.
        """
        path = self.folder / relative
        if not self.has(relative):
            # Nothing vouches for a file that was put beside the others later.
            raise RunError(f"{path} is missing from {MANIFEST_NAME}; build the bundle again")
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise RunError(
                f"{path} leads outside the bundle, to {path.resolve()}; a bundle holds its own "
                "files: copy it with links followed"
            )
        if not path.is_file():
            raise RunError(f"{path} is missing; {_COPY_AGAIN}")
        return path

    def has(self, relative: str) -> bool:
        """Say whether the manifest lists this file."""
        return any(entry.path == relative for entry in self.manifest.files)

    def backend(self, name: str) -> BackendEntry:
        """Return what the manifest says of a backend.

        Raises:
            RunError: the bundle was built without it.
        """
        if name not in self.manifest.backends:
            raise RunError(
                f"--backend {name}: {self.folder} has no such artifact, only "
                f"{', '.join(sorted(self.manifest.backends)) or 'none at all'}; choose one of "
                f"these{f', or build with --backend {name}' if _is_known(name) else ''}"
            )
        return self.manifest.backends[name]

    def read_text(self, relative: str) -> str:
        """Return the text of a file.

        Raises:
            RunError: it is missing or not UTF-8.
        """
        path = self.path(relative)
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise RunError(f"{path} is not UTF-8 text ({error}); {_COPY_AGAIN}") from error

    def read_object(self, relative: str) -> dict[str, object]:
        """Return a JSON file's object.

        Raises:
            RunError: it is missing or something else.
        """
        try:
            return load_object(self.read_text(relative))
        except FieldError as error:
            raise RunError(f"{self.folder / relative}: {error}; {_COPY_AGAIN}") from error

    def check(
        self, backend: str | None = None, hashes: bool = True, advance: Advance = silent
    ) -> None:
        """Compare the files with the manifest.

        Args:
            backend: leave out the files of every other backend; None checks all.
            hashes: False compares sizes only.

        Raises:
            RunError: a file is missing, or its size or sha256 differs.
        """
        entries = self.manifest.files if backend is None else tuple(self._files_of(backend))
        for entry in entries:
            found = self.path(entry.path).stat().st_size
            if found != entry.size_bytes:
                raise RunError(
                    f"{self.folder / entry.path} has {found} bytes, the manifest says "
                    f"{entry.size_bytes}; {_COPY_AGAIN}"
                )
        if hashes:
            self._check_hashes(entries, advance)

    def _check_hashes(self, entries: tuple[FileEntry, ...], advance: Advance) -> None:
        total, done = sum(entry.size_bytes for entry in entries), 0
        for entry in entries:
            for block in self.checked_blocks(entry):
                done += len(block)
                advance(done, total, entry.path)

    def checked_blocks(self, entry: FileEntry) -> Iterator[bytes]:
        """Yield a file's bytes.

        Raises:
            RunError: after the last block, that they are not what was built.
        """
        digest = hashlib.sha256()
        with self.path(entry.path).open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                yield block
        if digest.hexdigest() != entry.sha256:
            raise RunError(
                f"{self.folder / entry.path} was changed after the build: sha256 is "
                f"{digest.hexdigest()}, the manifest says {entry.sha256}; {_COPY_AGAIN}"
            )

    def _files_of(self, backend: str) -> Iterator[FileEntry]:
        self.backend(backend)
        others = {n: entry for n, entry in self.manifest.backends.items() if n != backend}
        goldens = {entry.golden for entry in others.values()}
        for entry in self.manifest.files:
            if entry.path not in goldens and entry.path.split("/")[0] not in others:
                yield entry


def open_bundle(folder: Path | str, check_hashes: bool = True, advance: Advance = silent) -> Bundle:
    """Read a bundle's manifest and check its files.

    Args:
        check_hashes: False compares sizes only, which takes no time.
        advance: called while hashing.

    Raises:
        RunError: there is no bundle, its format is newer, or a file is not what was built.
    """
    bundle = read_bundle(folder)
    bundle.check(hashes=check_hashes, advance=advance)
    return bundle


def read_bundle(folder: Path | str) -> Bundle:
    """Read a bundle's manifest without looking at its files.

    Raises:
        RunError: there is no bundle here, or its manifest cannot be used.
    """
    folder = Path(folder)
    if not folder.exists():
        raise RunError(f"{folder}: there is no such folder; give one that pocketlm build made")
    if not folder.is_dir():
        raise RunError(f"{folder} is a file; give the folder of a bundle, with its {MANIFEST_NAME}")
    path = folder / MANIFEST_NAME
    if not path.is_file():
        hint = "a checkpoint: build it first with pocketlm build"
        found = hint if (folder / "config.json").is_file() else "something else"
        raise RunError(f"{folder} is no bundle: it has no {MANIFEST_NAME}; it looks like {found}")
    try:
        text = path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise RunError(f"{path} cannot be read ({error}); {_COPY_AGAIN}") from error
    return Bundle(folder, Manifest.from_json(text))


def _is_known(backend: str) -> bool:
    # By its file, as runtime_py/engines finds it, without what an engine needs.
    return (Path(__file__).with_name("engines") / f"{backend}.py").is_file()
