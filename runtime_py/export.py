"""export(): just the files that one runtime's app needs, checked and copied."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from pocketlm.runtime_py import engines
from pocketlm.runtime_py.app_runtime import TOKENIZER
from pocketlm.runtime_py.bundle import Advance, Bundle, silent
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.manifest import FileEntry


@dataclass(frozen=True)
class ExportedFile:
    """One file of an app: its path there, and what it is in the bundle."""

    path: str
    entry: FileEntry


def files_for(bundle: Bundle, runtime: str) -> tuple[ExportedFile, ...]:
    """Return what an app for `runtime` needs of a bundle, weights once.

    Raises:
        RunError: no such runtime, or the bundle was not built for it.
    """
    wanted = engines.load_app(runtime)
    bundle.backend(wanted.backend)
    needs = wanted.needs or {}
    for needed, advice in needs.items():
        if not bundle.has(needed):
            raise RunError(f"--for {runtime}: {bundle.folder} has no {needed}: {advice}")
    own = f"{wanted.backend}/"
    # The tokenizer files in the backend's folder are whole; those at the top are the host's.
    has_own = bundle.has(f"{own}{TOKENIZER}")
    beside = [name for name in wanted.text_files if name in needs or not has_own]
    chosen = {}
    for entry in bundle.manifest.files:
        name = entry.path.removeprefix(own)
        if entry.path.startswith(own):
            chosen[entry.path if wanted.keeps_folders else name] = entry
        elif entry.path in beside:
            chosen[entry.path] = entry
    return tuple(ExportedFile(path, entry) for path, entry in sorted(chosen.items()))


def export(
    bundle: Bundle, runtime: str, out: Path, advance: Advance = silent
) -> tuple[ExportedFile, ...]:
    """Copy what an app for `runtime` needs into the new folder `out`, whole or not at all.

    Raises:
        RunError: there is something at `out`, or a file is not what was built.
    """
    files = files_for(bundle, runtime)
    if out.exists() or out.is_symlink():
        raise RunError(f"--out {out}: exists already; remove it or choose another folder")
    bundle.check(engines.load_app(runtime).backend, hashes=False)
    total, done = sum(file.entry.size_bytes for file in files), 0
    near = next(parent for parent in out.absolute().parents if parent.is_dir())
    try:
        with tempfile.TemporaryDirectory(prefix=".pocketlm-export-", dir=near) as made:
            whole = Path(made) / "whole"
            for file in files:
                target = whole / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as written:
                    for block in bundle.checked_blocks(file.entry):
                        written.write(block)
                        done += len(block)
                        advance(done, total, file.path)
            out.parent.mkdir(parents=True, exist_ok=True)
            whole.rename(out)
    except PermissionError as error:
        path = error.filename or out
        raise RunError(f"--out {out}: {path} cannot be written; choose another folder") from error
    return files
