"""Collects the training text from the running Python's standard library.

The same Python version gives the same text: paths are sorted and every choice is a hash of a name.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from pydoc_data import topics

from tools.pico_training.docstrings import Documented, from_builtin, from_source, render_help

# Tables, generated code, tests, and packages that are a copy of other text.
SKIPPED_PARTS = {
    "__pycache__", "dist-packages", "encodings", "ensurepip", "idle_test", "lib2to3",
    "lib-dynload", "pydoc_data", "site-packages", "test", "tests", "venv",
}  # fmt: skip
SKIPPED_FILES = {"antigravity.py", "entities.py", "locale.py", "this.py"}
MAX_FILE_BYTES = 400_000
HELD_OUT_PERCENT = 4

# Modules written in C: their text is only in docstrings.
C_MODULES = (
    "_collections", "_csv", "_datetime", "_functools", "_io", "_json", "_operator", "_pickle",
    "_random", "_socket", "_sre", "_ssl", "_struct", "_thread", "array", "atexit", "binascii",
    "builtins", "cmath", "errno", "faulthandler", "gc", "itertools", "marshal", "math", "mmap",
    "posix", "pwd", "resource", "select", "signal", "sys", "termios", "time", "unicodedata",
    "zlib",
)  # fmt: skip
# The name people import for what the C module holds.
PUBLIC_NAMES = {
    "_collections": "collections", "_csv": "csv", "_datetime": "datetime",
    "_functools": "functools", "_io": "io", "_json": "json", "_operator": "operator",
    "_pickle": "pickle", "_random": "random", "_socket": "socket", "_sre": "re", "_ssl": "ssl",
    "_struct": "struct", "_thread": "threading", "posix": "os",
}  # fmt: skip


@dataclass
class Corpus:
    """The documents of one split, in a fixed order, and the objects the dialogues are made of."""

    documents: list[str] = field(default_factory=list)
    objects: list[Documented] = field(default_factory=list)
    topics: dict[str, str] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for document in self.documents:
            digest.update(document.encode() + b"\0")
        return digest.hexdigest()

    @property
    def text_bytes(self) -> int:
        return sum(len(document.encode()) for document in self.documents)


def stable_hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def is_held_out(name: str) -> bool:
    return stable_hash("pico-16:" + name) % 100 < HELD_OUT_PERCENT


def source_files(library: Path) -> list[Path]:
    """List the standard library's source files that carry text worth learning, sorted."""
    found = []
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).parts
        if SKIPPED_PARTS.intersection(parts) or path.name in SKIPPED_FILES:
            continue
        if parts[0].startswith(("config-", "_sysconfigdata")):
            continue
        if 200 < path.stat().st_size <= MAX_FILE_BYTES:
            found.append(path)
    return found


def module_name(path: Path, library: Path) -> str:
    name = ".".join(path.relative_to(library).with_suffix("").parts).removesuffix(".__init__")
    return {"posixpath": "os.path", "_pydecimal": "decimal", "_pyio": "io"}.get(name, name)


def collect() -> tuple[Corpus, Corpus]:
    """Read the standard library and split it by file name.

    Returns:
        The training corpus and the held-out corpus.
    """
    train, held_out = Corpus(), Corpus()
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in source_files(library):
        name = module_name(path, library)
        source = path.read_text(encoding="utf-8", errors="replace")
        split = held_out if is_held_out(name) else train
        split.documents.append(f"# {path.relative_to(library).as_posix()}\n{source.strip()}\n")
        _add_objects(split, list(from_source(name, source)))
    for name in C_MODULES:
        public = PUBLIC_NAMES.get(name, name)
        items = [
            Documented(public, item.name, item.kind, item.signature, item.doc)
            for item in from_builtin(importlib.import_module(name))
        ]
        _add_objects(held_out if is_held_out(name) else train, items)
    for topic in sorted(topics.topics):
        split = held_out if is_held_out("topic:" + topic) else train
        split.documents.append(topics.topics[topic].strip() + "\n")
        split.topics[topic] = topics.topics[topic].strip()
    return train, held_out


def _add_objects(split: Corpus, items: list[Documented]) -> None:
    if items:
        split.objects.extend(items)
        split.documents.append(render_help(items))


def python_version() -> str:
    return sys.version.split()[0]
