"""The working folder of a build: `.NAME.build` beside the bundle, held by one process at a time.

A bundle appears whole or not at all. What an interrupted build has finished stays for the next
run; a build that was asked for in error leaves nothing.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from pocketlm.edge_build.byte_sizes import shown_size
from pocketlm.edge_build.errors import BuildError, InterruptedBuildError
from pocketlm.edge_build.exchange import exchange
from pocketlm.edge_build.stages import LOCK_NAME, finished_names, remove
from pocketlm.models.errors import ModelError
from pocketlm.runtime_py.manifest import MANIFEST_NAME

BUNDLE_NAME = "bundle"
# Written when the bundle takes its place: what is found beside it afterwards can go.
_DONE_NAME = "done"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def staging(out: Path, fresh: bool, replace: bool = False) -> Iterator[Path]:
    """Give a build's working folder; what lies in its folder "bundle" at the end becomes `out`.

    Whatever ends a build keeps its finished stages, and the error says so; so does a killed
    process, without a word. With nothing finished, nothing is kept.

    Args:
        fresh: start over even if stages are finished.
        replace: a bundle at `out` gives way, in one step.

    Raises:
        BuildError: another process builds to `out`, or `out` cannot be written.
        InterruptedBuildError: the disk is full.
    """
    folder = working_folder(out)
    made = [parent for parent in folder.parents if not parent.exists()]
    try:
        with _locked(folder, out):
            try:
                if fresh:
                    _clear(folder)
                yield folder
                (folder / _DONE_NAME).touch()
                if replace and out.exists():
                    exchange(folder / BUNDLE_NAME, out)
                else:
                    (folder / BUNDLE_NAME).rename(out)
            except BaseException as error:
                # A mistake in what was asked is found before the first stage is finished.
                if not finished_names(folder):
                    shutil.rmtree(folder, ignore_errors=True)
                    _remove_empty(made)
                    if not _is_wrong_input(error):
                        error.add_note("nothing was kept")
                else:
                    error.add_note(_how_to_continue(folder))
                raise
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        _remove_empty(made)
        raise _in_words(out, error) from error


def remove_remains(out: Path) -> None:
    """Remove the working folder of a build to `out` that was killed after its bundle was there."""
    if not out.name:
        return
    folder = working_folder(out)
    if folder.is_symlink() or not (folder / _DONE_NAME).is_file() or not out.exists():
        return
    with (folder / LOCK_NAME).open("a+", encoding="ascii") as file, suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)


def working_folder(out: Path) -> Path:
    """Return the folder that a build to `out` works in."""
    return out.absolute().with_name(f".{out.name}.build")


def _is_wrong_input(error: BaseException) -> bool:
    mistake = isinstance(error, BuildError | ModelError)
    return mistake and not isinstance(error, InterruptedBuildError)


def refuse_existing(out: Path, replace: bool = False) -> None:
    """Raise BuildError if there is anything at `out` but a bundle that may be replaced."""
    is_lost = not out.exists() if out.name == ".." else not out.parent.is_dir()
    if ".." in out.parts and is_lost:
        raise BuildError(
            f"--out {out}: leads through a folder that is not there; write it without '..'"
        )
    if not (out.exists() or out.is_symlink()):
        return
    is_bundle = (out / MANIFEST_NAME).is_file() and not out.is_symlink()
    if not is_bundle:
        raise BuildError(
            f"--out {out}: exists already and is no bundle; remove it or choose another folder"
        )
    if not replace:
        raise BuildError(
            f"--out {out}: exists already; add --force to replace this bundle, or choose another "
            "folder"
        )


def refuse_appeared(out: Path, replace: bool = False) -> None:
    """Raise InterruptedBuildError if something is at `out` now, before work is moved there."""
    try:
        refuse_existing(out, replace)
    except BuildError as error:
        raise _appeared(out) from error


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raise InterruptedBuildError if the disk of `folder` has less room than the build needs."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise InterruptedBuildError(
            f"--out below {folder.parent}: the build needs about {shown_size(needed_bytes)} there "
            f"and {shown_size(free_bytes)} are free; make room or choose another disk"
        )


@contextmanager
def _locked(folder: Path, out: Path) -> Iterator[None]:
    """Make `folder` and hold its lock, which the system lets go of when the process ends."""
    with _open_lock(folder, out) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise BuildError(
                f"--out {out}: process {file.read().strip() or 'unknown'} is building there; wait "
                "for it, or choose another folder"
            ) from None
        if not _is_at(file, folder / LOCK_NAME):
            raise BuildError(f"--out {out}: another build there ended this moment; start again")
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _open_lock(folder: Path, out: Path) -> TextIO:
    foreign = folder.is_symlink() or (
        folder.is_dir() and any(folder.iterdir()) and not (folder / LOCK_NAME).is_file()
    )
    if foreign:
        raise BuildError(
            f"--out {out}: a build works in {folder}, which exists and holds something else; move "
            "it away or choose another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / LOCK_NAME).open("a+", encoding="ascii")


def _is_at(file: TextIO, path: Path) -> bool:
    """Say whether `path` is still the open file: its folder may just have become a bundle."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != LOCK_NAME:
            remove(path)


def _remove_empty(made: list[Path]) -> None:
    for parent in made:
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()


def _how_to_continue(folder: Path) -> str:
    return (
        f"finished: {', '.join(finished_names(folder))}; run the same command again to continue, "
        f"or remove {folder} to start over"
    )


def _in_words(out: Path, error: OSError) -> InterruptedBuildError:
    if error.errno in _FULL:
        words = InterruptedBuildError(
            f"{out}: the disk is full; free some space or give a folder on another disk"
        )
    elif out.exists():
        words = _appeared(out)
    else:
        file = f"{error.filename}: " if error.filename else ""
        words = InterruptedBuildError(
            f"{out}: cannot be written ({file}{error.strerror}); give another folder"
        )
    for note in getattr(error, "__notes__", ()):
        words.add_note(note)
    return words


def _appeared(out: Path) -> InterruptedBuildError:
    return InterruptedBuildError(f"--out {out}: appeared while it was being built; move it away")
