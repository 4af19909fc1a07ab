"""Stages that are worked once, also by a build that is interrupted and run again.

Each stage writes to a folder of its own. When its files are complete, a record with their digests
is written beside it, atomically: a stage counts as finished by its record alone, and only while its
files are what the record says.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pocketlm.edge_build.errors import InterruptedBuildError
from pocketlm.edge_build.file_entries import file_entries
from pocketlm.edge_build.progress import (
    Advance,
    Notice,
    Notify,
    StageAdvanced,
    StageFinished,
    StageReport,
    StageStarted,
    Unit,
)
from pocketlm.edge_build.resident_memory import PeakMemory, return_freed_memory
from pocketlm.runtime_py.manifest import FileEntry
from pocketlm.runtime_py.typed_json import FieldError, load_object, read_as

LOCK_NAME = "lock"
# In the folder of a stage that keeps what it has done so far, with the key of its build: files of
# an unfinished stage are removed otherwise.
PARTS_NAME = "parts.key"
_RECORD_END = ".finished.json"
_DIGEST_KEY = "record_sha256"

T = TypeVar("T")


@dataclass(frozen=True)
class StageRecord:
    """What is kept of a finished stage besides its files.

    Attributes:
        key: of the build that it belongs to (edge_build/build_key.py).
        result: what the stage returned, in plain JSON.
    """

    key: str
    files: tuple[FileEntry, ...]
    wall_s: float
    peak_bytes: int
    result: Mapping[str, Any]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True)
class ResultFormat(Generic[T]):
    """How a stage's result is kept: as plain JSON, and in files of the stage's folder."""

    write: Callable[[T, Path], Mapping[str, Any]]
    read: Callable[[Mapping[str, Any], Path], T]


class Stages:
    """The stages of one build in its working folder.

    Those that an earlier run with the same key finished are taken over, up to the first that is
    missing or damaged; whatever else lies in the folder is removed.

    Args:
        names: in the order in which they will be run.
    """

    def __init__(self, folder: Path, key: str, names: Sequence[str], notify: Notify) -> None:
        self.folder, self.key, self.names = folder, key, tuple(names)
        self.notify = notify
        self.finished = self._take_over()

    @property
    def kept_bytes(self) -> int:
        """Bytes of files that earlier runs left for this one."""
        return sum(record.size_bytes for record in self.finished.values())

    def run(
        self,
        name: str,
        work: Callable[[Path, Advance], T],
        kept: ResultFormat[T],
        unit: Unit = "steps",
    ) -> T:
        """Do a stage's work in its folder, or take it over.

        Either way the result is read from what is kept, so both are the same.
        """
        assert name in self.names, f"{name} is not a stage of this build"
        reused = name in self.finished
        if not reused:
            self.finished[name] = self._work(name, work, kept, unit)
        record = self.finished[name]
        self.notify(
            StageFinished(StageReport(name, record.wall_s, record.peak_bytes, reused=reused))
        )
        return kept.read(record.result, self.folder / name)

    def move_files(self, name: str, target: Path) -> None:
        """Move a finished stage's files to another folder of the same disk."""
        for entry in self.finished[name].files:
            path = target / entry.path
            assert not path.exists(), f"two stages wrote {entry.path}"
            path.parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name / entry.path).rename(path)

    def _work(
        self,
        name: str,
        work: Callable[[Path, Advance], T],
        kept: ResultFormat[T],
        unit: Unit,
    ) -> StageRecord:
        folder = self.folder / name
        # It is there if an earlier run kept parts.
        folder.mkdir(exist_ok=True)
        self.notify(StageStarted(name))

        def advance(_: str, done: int, total: int, what: str) -> None:
            self.notify(StageAdvanced(name, done, total, unit, what))

        def done() -> tuple[Mapping[str, Any], tuple[FileEntry, ...]]:
            return kept.write(work(folder, advance), folder), file_entries(folder)

        (result, files), wall_s, peak_bytes = _measured(name, done)
        record = StageRecord(self.key, files, wall_s, peak_bytes, result)
        _write_record(self.folder, name, record)
        return_freed_memory()
        # As a later run would find it.
        return _read_record(self.folder, name)

    def _take_over(self) -> dict[str, StageRecord]:
        found: dict[str, StageRecord] = {}
        for name in self.names:
            record = self._verified(name)
            if record is None:
                break
            found[name] = record
        self._tell(found)
        kept = {LOCK_NAME, *found, *(f"{name}{_RECORD_END}" for name in found)}
        if len(found) < len(self.names) and self._has_parts(self.names[len(found)]):
            kept.add(self.names[len(found)])
        for path in self.folder.iterdir():
            if path.name not in kept:
                remove(path)
        return found

    def _has_parts(self, name: str) -> bool:
        folder = self.folder / name
        if folder.is_symlink() or (self.folder / f"{name}{_RECORD_END}").exists():
            return False
        try:
            return (folder / PARTS_NAME).read_text(encoding="utf-8") == self.key
        except (OSError, ValueError):
            return False

    def _verified(self, name: str) -> StageRecord | None:
        try:
            record = _read_record(self.folder, name)
        except (OSError, FieldError):
            return None
        folder = self.folder / name
        links = folder.is_symlink() or any(path.is_symlink() for path in folder.rglob("*"))
        same = not links and record.key == self.key and file_entries(folder) == record.files
        return record if same else None

    def _tell(self, found: Mapping[str, StageRecord]) -> None:
        lost = [name for name in finished_names(self.folder) if name not in found]
        begun = [n for n in self.names if (self.folder / n).exists() and n not in (*found, *lost)]
        if found:
            ended = f"; the last run ended during {begun[0]}" if begun else ""
            self.notify(
                Notice(f"continuing an interrupted build: {', '.join(found)} done before{ended}")
            )
        if lost:
            self.notify(
                Notice(
                    f"{', '.join(lost)}: finished by an interrupted build, but with other input, "
                    "options or tools, or damaged since; done again"
                )
            )


def keep_parts(folder: Path, key: str) -> None:
    """Mark the folder of a stage of a build with this key: its files outlive an interruption."""
    (folder / PARTS_NAME).write_text(key, encoding="ascii")


def run_unkept(name: str, work: Callable[[], T], notify: Notify) -> T:
    """Do a stage that is short enough to be done again by every run."""
    notify(StageStarted(name))
    result, wall_s, peak_bytes = _measured(name, work)
    notify(StageFinished(StageReport(name, wall_s, peak_bytes, reused=False)))
    return result


def _measured(name: str, work: Callable[[], T]) -> tuple[T, float, int]:
    """Return a stage's result, its seconds and its peak memory in bytes."""
    start = time.monotonic()
    with PeakMemory() as memory:
        try:
            result = work()
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            raise InterruptedBuildError(
                f"{name}: the system gave no more memory ({error or 'MemoryError'}); end other "
                "programs or take a larger machine; --dry-run says what each stage needs"
            ) from error
    return result, round(time.monotonic() - start, 2), memory.peak_bytes


def finished_names(folder: Path) -> list[str]:
    """Return the stages that have a record, verified or not."""
    return sorted(path.name.removesuffix(_RECORD_END) for path in folder.glob(f"*{_RECORD_END}"))


def remove(path: Path) -> None:
    """Remove a file or a folder with all it holds; a link, not what it points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _write_record(folder: Path, name: str, record: StageRecord) -> None:
    document = asdict(record)
    document[_DIGEST_KEY] = _digest(document)
    path = folder / f"{name}{_RECORD_END}"
    written = path.with_suffix(".writing")
    written.write_text(json.dumps(document), encoding="utf-8")
    written.rename(path)


def _read_record(folder: Path, name: str) -> StageRecord:
    text = (folder / f"{name}{_RECORD_END}").read_bytes().decode("utf-8", "replace")
    document = load_object(text)
    if document.pop(_DIGEST_KEY, None) != _digest(document):
        raise FieldError(f"{name}: the record was changed")
    return read_as(StageRecord, document)


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _is_out_of_memory(error: Exception) -> bool:
    # torch says it as a RuntimeError.
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)
