"""Writes a text to train on: descriptions and docstrings of the packages that are installed.

None of it is a text of this project or of CPython, which is what quality.py measures on. For pico
the documents of the standard library that it was trained on may come first: those that are held out
are not among them.
Command: python -m benchmarks.conversion.package_texts OUT --mega-bytes 8 [--with-sources]
  [--pico-corpus]
"""

import argparse
import ast
import hashlib
import inspect
import warnings
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from tools.pico_training.corpus import collect

_SHORTEST, _LONGEST_SOURCE = 400, 8000  # characters
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def package_texts(limit_bytes: int, with_sources: bool) -> str:
    """Return docstrings, and the packages' descriptions or the beginnings of their sources.

    Their order is one of chance that is always the same.
    """
    found = {d.name.lower(): d for d in distributions() if d.name.lower() != "pocketlm"}
    texts = {
        hashlib.sha256(text.encode("utf-8", "replace")).digest(): text
        for _, distribution in sorted(found.items())
        for text in _texts(distribution, with_sources)
    }
    kept, size = [], 0
    for _, text in sorted(texts.items()):
        size += len(text.encode("utf-8", "replace"))
        if size > limit_bytes:
            break
        kept.append(text.strip())
    # A docstring that shows a NUL, which no text file may hold.
    return "\n\n".join(kept).replace("\0", "") + "\n"


def _texts(distribution: Distribution, with_sources: bool) -> Iterator[str]:
    if not with_sources and (described := _description(distribution)):
        yield described
    for file in distribution.files or ():
        path = Path(str(file.locate()))
        if path.suffix != ".py" or not path.is_file() or "test" in str(file):
            continue
        try:
            source = path.read_text(encoding="utf-8")
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(source)
        except (SyntaxError, UnicodeDecodeError):
            continue
        if with_sources and source.isascii():
            yield source[:_LONGEST_SOURCE]
        for node in ast.walk(tree):
            text = ast.get_docstring(node) if isinstance(node, _DOCUMENTED) else None
            if text and len(text) >= _SHORTEST and text.isascii():
                yield inspect.cleandoc(text)


def _description(distribution: Distribution) -> str:
    payload = distribution.metadata.get_payload()
    text = payload if isinstance(payload, str) else distribution.metadata.get("Description", "")
    return text if len(text) >= _SHORTEST else ""


def main() -> None:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--mega-bytes", type=float, default=8)
    parser.add_argument("--with-sources", action="store_true", help="Python, for pico")
    parser.add_argument("--pico-corpus", action="store_true", help="and what pico was trained on")
    given = parser.parse_args()
    text = package_texts(int(given.mega_bytes * 1e6), given.with_sources)
    if given.pico_corpus:
        documents = collect()[0].documents
        text = "\n\n".join([*(document.strip() for document in documents), text])
    given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
