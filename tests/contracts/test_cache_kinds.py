"""What a kind of cache is stands in its file alone: nothing else asks for one by name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocketlm.runtime_py import caches
from pocketlm.runtime_py.cache_layout import CacheLayout
from tests.our_packages import PACKAGES

ROOT = Path(__file__).parents[2]
HOME = ROOT / "runtime_py" / "caches"

# Files that may have such a word, and why.
ALLOWED = {
    "edge_build/backends/onnx/kinds.py": "how ONNX Runtime writes and attends to each kind",
    "edge_build/backends/executorch/lowering.py": "an operator is called linear",
    "models/gguf/architectures/__init__.py": "a way to scale rotary positions is called linear",
    "models/published_config.py": "a way to scale rotary positions is called linear",
}


def words(tree: ast.AST) -> Iterator[str]:
    """Yield the texts of a file that are a kind's name, and imports of a kind."""
    names = caches.names()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in names:
            yield str(node.value)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            homes = tuple(f"{caches.__name__}.{name}" for name in names)
            yield from (module for module in found if module in homes)


def test_no_other_file_names_a_kind() -> None:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.parent != HOME and (named := sorted(set(words(ast.parse(path.read_text()))))):
                found[path.relative_to(ROOT).as_posix()] = named
    extra = {path: named for path, named in found.items() if path not in ALLOWED}
    assert extra == {}, "ask the cache's layout instead (runtime_py/cache_layout.py)"
    assert found.keys() == ALLOWED.keys(), "a reason that nothing needs any more"


def test_the_search_finds_a_name_and_an_import() -> None:
    assert list(words(ast.parse("if cache.kind == 'ring':\n    pass"))) == ["ring"]
    assert list(words(ast.parse("from pocketlm.runtime_py.caches.ring import KIND"))) == [
        "pocketlm.runtime_py.caches.ring"
    ]
    assert list(words(ast.parse("from pocketlm.runtime_py.caches import windowed"))) == [
        "pocketlm.runtime_py.caches.windowed"
    ]
    assert list(words(ast.parse("'a ring cache', caches.LOCAL"))) == []


@pytest.mark.parametrize("name", caches.names())
def test_a_kind_offers_its_constant_under_its_file_name(name: str) -> None:
    kind = caches.load(name)
    assert issubclass(kind, CacheLayout)
    assert kind.__module__ == f"pocketlm.runtime_py.caches.{name}"
    # Who keeps everything has a slot for each position, who overwrites has fewer where it can.
    assert kind.overwrites == (kind.slots(8, 4, 1000) < 1000)


def test_the_two_kinds_that_a_plan_begins_with_are_there() -> None:
    assert not caches.load(caches.GLOBAL).overwrites
    assert caches.load(caches.LOCAL).overwrites
