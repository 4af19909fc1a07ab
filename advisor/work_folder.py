"""The folder of an advice: bundles of candidates, and what was measured, each whole or none."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from pocketlm.advisor.candidates import Candidate
from pocketlm.advisor.record import Record
from pocketlm.edge_build.whole_file import write_whole
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.typed_json import FieldError

PLAN_NAME = "advice.json"
_LOCK_NAME = ".lock"
_RECORDS, _BUNDLES = "measured", "bundles"
# Of a key in names: enough to tell apart what lies in one folder.
_SHORT = 10


class WorkFolder:
    """Where candidates are built and what was measured is kept; held by one process at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def bundle(self, candidate: Candidate, build_key: str) -> Path:
        """Return where the bundle of a candidate goes."""
        recipe = Path(candidate.recipe).name
        method = "" if candidate.method is None else f"+{candidate.method}"
        name = f"{recipe}{method}-{candidate.backend}-{build_key[:_SHORT]}"
        return self.folder / _BUNDLES / name

    def check(self) -> None:
        """Refuse a path that is not ours to write to.

        Raises:
            RunError: something else is there.
        """
        if not (self.folder.exists() or self.folder.is_symlink()):
            return
        if not self.folder.is_dir():
            raise RunError(f"--out {self.folder}: a file; give a folder, or one to make")
        if any(self.folder.iterdir()) and not self._is_ours():
            raise RunError(
                f"--out {self.folder}: holds something else than candidates; give another folder, "
                "or one to make"
            )

    def _is_ours(self) -> bool:
        # The lock alone: killed before the plan was there.
        return (self.folder / PLAN_NAME).is_file() or (self.folder / _LOCK_NAME).is_file()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder and hold it during the block.

        Raises:
            RunError: it cannot be written, or another process holds it.
        """
        self.check()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / _LOCK_NAME).open("a+", encoding="ascii")
        except OSError as error:
            raise self._cannot_write(error) from error
        with lock:
            self._lock(lock)
            yield

    def _lock(self, file: TextIO) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise RunError(
                f"--out {self.folder}: process {file.read().strip() or 'unknown'} works there; "
                "wait for it, or give another folder"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()

    def write_plan(self, document: Mapping[str, Any]) -> None:
        """Write what is to be measured, for people and for who looks whose folder this is.

        Raises:
            RunError: it cannot be written.
        """
        self._write(self.folder / PLAN_NAME, json.dumps(document, indent=1))

    def read_record(self, key: str) -> Record | None:
        """Return what was measured under a key; None where there is nothing whole."""
        try:
            record = Record.from_json(self._record(key).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, FieldError):
            return None
        is_compared = record.evaluation.kl_nats is not None
        return record if record.key == key and is_compared else None

    def write_record(self, record: Record) -> None:
        """Keep what was measured.

        Raises:
            RunError: it cannot be written.
        """
        self._write(self._record(record.key), record.to_json())

    def _record(self, key: str) -> Path:
        return self.folder / _RECORDS / f"{key}.json"

    def _write(self, path: Path, text: str) -> None:
        try:
            path.parent.mkdir(exist_ok=True)
            write_whole(path, text)
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> RunError:
        return RunError(
            f"--out {self.folder}: cannot be written ({error.strerror}); give another folder"
        )
