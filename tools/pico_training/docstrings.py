"""Reads documented objects out of Python source and of built-in modules."""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass

MAX_SIGNATURE = 200


@dataclass(frozen=True)
class Documented:
    """One object with a docstring.

    `kind` is one of module, class, function, method; `signature` is empty for modules and where
    Python does not know it.
    """

    module: str
    name: str
    kind: str
    signature: str
    doc: str

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}" if self.name else self.module


def from_source(module: str, source: str) -> Iterator[Documented]:
    """Yield the module and every public documented class, function and method of `source`."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    doc = ast.get_docstring(tree)
    if doc:
        yield Documented(module, "", "module", "", doc.strip())
    yield from _documented_members(module, "", tree)


def _documented_members(
    module: str, owner: str, tree: ast.Module | ast.ClassDef
) -> Iterator[Documented]:
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_") and node.name != "__init__":
            continue
        name = f"{owner}.{node.name}" if owner else node.name
        doc = ast.get_docstring(node)
        if isinstance(node, ast.ClassDef):
            bases = ", ".join(ast.unparse(base) for base in node.bases)
            signature = f"class {node.name}({bases})" if bases else f"class {node.name}"
            kind = "class"
        else:
            signature = f"{node.name}({ast.unparse(node.args)})"
            kind = "method" if owner else "function"
        if doc and len(signature) <= MAX_SIGNATURE:
            yield Documented(module, name, kind, signature, doc.strip())
        if isinstance(node, ast.ClassDef):
            yield from _documented_members(module, name, node)


def from_builtin(module: types.ModuleType) -> Iterator[Documented]:
    """Yield the documented objects of a module that has no Python source."""
    name = module.__name__
    if module.__doc__:
        yield Documented(name, "", "module", "", inspect.cleandoc(module.__doc__))
    for key in sorted(vars(module)):
        value = vars(module)[key]
        if key.startswith("_") or not callable(value):
            continue
        if isinstance(value, type):
            yield from _documented_type(name, key, value)
        else:
            yield from _documented_callable(name, key, "function", value)


def _documented_type(module: str, key: str, value: type) -> Iterator[Documented]:
    if value.__doc__:
        bases = ", ".join(b.__name__ for b in value.__bases__ if b is not object)
        signature = f"class {key}({bases})" if bases else f"class {key}"
        yield Documented(module, key, "class", signature, inspect.cleandoc(value.__doc__))
    for attribute in sorted(vars(value)):
        member = vars(value)[attribute]
        if not attribute.startswith("_") and callable(member):
            yield from _documented_callable(module, f"{key}.{attribute}", "method", member)


def _documented_callable(module: str, name: str, kind: str, value: object) -> Iterator[Documented]:
    doc = getattr(value, "__doc__", None)
    if not isinstance(doc, str) or not doc.strip():
        return
    try:
        signature = name.rpartition(".")[2] + str(inspect.signature(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        signature = ""
    # An object's address would change from run to run.
    if " at 0x" in signature or len(signature) > MAX_SIGNATURE:
        signature = ""
    yield Documented(module, name, kind, signature, inspect.cleandoc(doc))


def render_help(items: list[Documented]) -> str:
    """Render one module's objects as `help()` would: signature, then the indented docstring."""
    module = items[0].module
    parts = [f"Help on module {module}:"]
    for item in items:
        if not item.name:
            parts.append(f"NAME\n    {module}\n\nDESCRIPTION\n{textwrap.indent(item.doc, '    ')}")
            continue
        head = item.signature or f"{item.name}(...)"
        if item.kind == "method":
            head = f"{item.name.rpartition('.')[0]}.{head}"
        parts.append(f"{head}\n{textwrap.indent(item.doc, '    ')}")
    return "\n\n".join(parts) + "\n"
