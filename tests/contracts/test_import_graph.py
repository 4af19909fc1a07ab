"""Who imports whom among our modules, read from the syntax trees."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.our_packages import PACKAGES

ROOT = Path(__file__).parents[2]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
# Beside links to the packages, pocketlm/ has modules of its own.
SOURCES += (ROOT / "pocketlm").glob("*.py")
TREES = {module_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}


def imports_when_loaded(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield what runs as a module is imported: not in functions, and not for types alone.

    Python itself runs neither, so neither can make a cycle of modules that wait for each other.
    """
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from imports_when_loaded(node.orelse)
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            for block in ("body", "orelse", "finalbody"):
                yield from imports_when_loaded(getattr(node, block, []))
            for handler in getattr(node, "handlers", []):
                yield from imports_when_loaded(handler.body)


def imported(node: ast.Import | ast.ImportFrom, known: Mapping[str, object]) -> set[str]:
    """Return the modules of ours that a statement names.

    A package that is named only on the way to a module of it is not counted.
    """
    if isinstance(node, ast.Import):
        return {in_folder(alias.name) for alias in node.names} & known.keys()
    module = in_folder(node.module or "")
    members = {in_folder(f"{module}.{alias.name}") for alias in node.names}
    modules = members & known.keys()
    return modules if modules == members else (modules | {module}) & known.keys()


def in_folder(module: str) -> str:
    """Return a module's name as its path from the top of the repository has it."""
    inside = module.removeprefix("pocketlm.")
    return inside if inside.partition(".")[0] in PACKAGES else module


def graph_when_loaded(trees: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    return {
        name: set().union(*(imported(node, trees) for node in imports_when_loaded(tree.body)))
        for name, tree in trees.items()
    }


def graph_of_all(trees: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Return the graph in which lazy and type-only imports count too."""
    return {
        name: set().union(
            *(
                imported(node, trees)
                for node in ast.walk(tree)
                if isinstance(node, ast.Import | ast.ImportFrom)
            )
        )
        for name, tree in trees.items()
    }


def presenting_without_leave(graph: Mapping[str, set[str]]) -> list[str]:
    """Return who imports the report's presentation, but for itself and the commands."""
    report, commands = "device_tests.report", "device_tests.commands"
    return sorted(
        f"{name} imports {other}"
        for name, others in graph.items()
        for other in others
        if f"{other}.".startswith(f"{report}.") and not name.startswith((report, commands))
    )


def cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return modules that import each other, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_what_measures_imports_no_presentation() -> None:
    graph = graph_of_all(TREES)
    # Who may import it does, so the graph is not empty.
    assert "device_tests.report.page" in graph["device_tests.commands.profile_bundle"]
    assert presenting_without_leave(graph) == []


def test_no_modules_import_each_other() -> None:
    assert cycle(graph_when_loaded(TREES)) == []


def trees_of(**modules: str) -> dict[str, ast.Module]:
    return {name.replace("__", "."): ast.parse(text) for name, text in modules.items()}


@pytest.mark.parametrize(
    "text",
    [
        "from device_tests.report import page",
        "from device_tests.report.page import render_html",
        "import device_tests.report.page",
        "def f():\n    from device_tests.report.page import render_html",
        "if TYPE_CHECKING:\n    from device_tests.report.page import Page",
    ],
)
def test_every_way_to_import_presentation_is_seen(text: str) -> None:
    modules = {"device_tests__report": "", "device_tests__report__page": ""}
    seen = graph_of_all(trees_of(device_tests__job__state=text, **modules))
    assert presenting_without_leave(seen) == [
        "device_tests.job.state imports device_tests.report.page"
    ]
    allowed = graph_of_all(trees_of(device_tests__commands__fit=text, **modules))
    assert presenting_without_leave(allowed) == []


@pytest.mark.parametrize(
    "text",
    [
        "from models import b",
        "from models.b import x",
        "import models.b",
        "try:\n    import models.b\nexcept ImportError:\n    pass",
        "if TYPE_CHECKING:\n    pass\nelse:\n    import models.b",
        "class A:\n    from models.b import x",
    ],
)
def test_a_cycle_is_found_however_it_is_imported(text: str) -> None:
    trees = trees_of(models="", models__a=text, models__b="from models.a import y")
    assert set(cycle(graph_when_loaded(trees))) == {"models.a", "models.b"}


@pytest.mark.parametrize(
    "text",
    ["def f():\n    import models.b", "if TYPE_CHECKING:\n    from models.b import x"],
)
def test_imports_that_are_not_run_while_loading_are_no_cycle(text: str) -> None:
    trees = trees_of(models="", models__a=text, models__b="from models.a import y")
    assert cycle(graph_when_loaded(trees)) == []
