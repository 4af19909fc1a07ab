"""The file that --html names: checked before the work begins, written whole at its end."""

from collections.abc import Iterable
from pathlib import Path

from pocketlm.edge_build.whole_file import write_whole
from pocketlm.runtime_py.errors import RunError


def check_page_path(path: Path, inputs: Iterable[Path | None]) -> None:
    """Refuse a path of --html before there is work to lose.

    Args:
        inputs: files that are read, which the page must not replace; None is no file.

    Raises:
        RunError: a folder, no folder to write in, or a file that is read.
    """
    try:
        is_folder, is_in_folder = path.is_dir(), path.absolute().parent.is_dir()
        is_input = any(given is not None and path.resolve() == given.resolve() for given in inputs)
    except OSError as error:
        raise _cannot_write(path, error) from error
    if is_folder:
        raise RunError(f"--html {path}: a folder; give the path of a file")
    if not is_in_folder:
        raise RunError(f"--html {path}: the folder does not exist; make it first")
    if is_input:
        raise RunError(f"--html {path}: the page would take the place of what is read")


def write_page(path: Path, page: str) -> None:
    """Write a page, whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    try:
        write_whole(path, page)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> RunError:
    return RunError(f"--html {path}: cannot be written ({error.strerror})")
