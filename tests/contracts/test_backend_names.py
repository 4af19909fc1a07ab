"""What a backend is stands in its folders alone: nothing else asks for one by name."""

import ast
from collections.abc import Iterator
from pathlib import Path

from pocketlm.edge_build import backends
from tests.our_packages import PACKAGES

ROOT = Path(__file__).parents[2]
PLACES = ("edge_build/backends", "runtime_py/engines", "device_tests/runners")

# Files that may have such a name, and why.
ALLOWED = {
    "edge_build/cli.py": "the help of -O shows an option of one",
    "runtime_py/lint/readers/executorch.py": "a reader is the home of one runtime's tokenizer",
    "runtime_py/lint/readers/genai.py": "likewise; its package is called onnxruntime_genai",
    "runtime_py/readings.py": "what to install where no stock runtime is there",
}


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Yield path and syntax tree of each of our modules outside the backends' folders."""
    homes = tuple(f"{place}/{name}/" for place in PLACES for name in backends.names())
    for package in (*PACKAGES, "pocketlm"):
        # The links in pocketlm/ lead to the others.
        paths = (ROOT / package).glob("*.py" if package == "pocketlm" else "**/*.py")
        for path in sorted(paths):
            inside = path.relative_to(ROOT).as_posix()
            if not inside.startswith(homes):
                yield inside, ast.parse(path.read_text(encoding="utf-8"))


def words(tree: ast.Module) -> Iterator[str]:
    """Yield texts, docstrings aside, and imports that have a backend's name in them."""
    prose = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            found = node.value
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found = ast.unparse(node)
        else:
            continue
        if any(name in found.lower() for name in backends.names()):
            yield found


def test_no_other_file_names_a_backend() -> None:
    found = {path: named for path, tree in sources() if (named := sorted(set(words(tree))))}
    extra = {path: named for path, named in found.items() if path not in ALLOWED}
    assert extra == {}, "state it in the backend's folder and find it by name"
    assert found.keys() == ALLOWED.keys(), "a reason that nothing needs any more"


def test_the_search_finds_a_name_and_an_import() -> None:
    def found(text: str) -> list[str]:
        return list(words(ast.parse(text)))

    assert found("if backend == 'onnx':\n    pass") == ["onnx"]
    assert found("MODEL = 'executorch/model.pte'") == ["executorch/model.pte"]
    assert found("say(f'{name} in ExecuTorch')") == [" in ExecuTorch"]
    assert found("def f():\n    import onnxruntime") == ["import onnxruntime"]
    assert found("from pocketlm.edge_build.backends import onnx")
    assert found("'''Of ExecuTorch.'''\n\ndef f():\n    '''As ONNX does.'''\n    return 1") == []
