"""The digest of this program itself: between releases its version says nothing."""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_PACKAGES = ("edge_build", "models", "runtime_py")


@cache
def program_digest(*modules: str) -> str:
    """Return the digest of some modules and of every one of ours that they import, or of all."""
    if modules:
        return _digest(set().union(*map(imported_files, modules)))
    return _digest(path for package in _PACKAGES for path in (_ROOT / package).rglob("*.py"))


def imported_files(module: str) -> set[Path]:
    """Return the files of a module and of all of ours that it imports, also inside functions."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        path = _file(waiting.pop())
        if path is not None and path not in found:
            found.add(path)
            waiting += _imports(ast.parse(path.read_bytes()))
    return found


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _file(module: str) -> Path | None:
    module = module.removeprefix("pocketlm.")
    if module.partition(".")[0] not in _PACKAGES:
        return None
    path = _ROOT / module.replace(".", "/")
    choices = (path.with_suffix(".py"), path / "__init__.py")
    return next((choice for choice in choices if choice.is_file()), None)


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.relative_to(_ROOT).as_posix()}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
