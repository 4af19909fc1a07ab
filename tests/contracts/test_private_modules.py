"""Private modules of torch and ExecuTorch are imported in one folder, which a build may skip."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("models", "edge_build", "runtime_py", "device_tests", "pocketlm")
HOME = ROOT / "edge_build" / "backends" / "executorch" / "unroll"

# Files elsewhere that may, and why.
ALLOWED = {
    "edge_build/backends/onnx/tracing.py": "torch documents FakeTensorMode as being there",
    "runtime_py/engines/executorch/deferred_packages.py": "loads it for the next but one",
    "runtime_py/engines/executorch/engine.py": "the public module of the bindings loads a compiler",
    "runtime_py/engines/executorch/program_file.py": "nothing public reads a .pte, and running may "
    "not import building",
}
_LIBRARIES = ("torch", "executorch", "torchao")
_MODULE = re.compile(rf"({'|'.join(_LIBRARIES)})(\.\w+)+")


def private_modules(tree: ast.Module) -> Iterator[str]:
    """Yield what a file takes from a module that starts with an underscore, and private names.

    Operators (`torch.ops`) are not modules; the underscore is part of their names.
    """
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            # A function that torch documents under such a name is no module.
            names = [ast.unparse(node.value)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value]
        yield from (name for name in names if _MODULE.fullmatch(name) and _is_private(name))


def _is_private(name: str) -> bool:
    return not name.startswith("torch.ops.") and "._" in name


def test_private_modules_are_imported_in_one_folder() -> None:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).glob("*.py" if package == "pocketlm" else "**/*.py")):
            names = sorted(set(private_modules(ast.parse(path.read_text(encoding="utf-8")))))
            if path.parent != HOME and names:
                found[path.relative_to(ROOT).as_posix()] = names
    extra = {path: names for path, names in found.items() if path not in ALLOWED}
    assert extra == {}, "such modules change without notice: use public ones, or put it in unroll/"
    assert found.keys() == ALLOWED.keys(), "a reason that nothing needs any more"


def test_nothing_imports_the_folder_while_it_loads() -> None:
    # With `-O executorch.unroll=off` a build never imports it.
    for path in HOME.parent.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            assert "executorch.unroll" not in ast.unparse(node) or isinstance(node, ast.FunctionDef)


@pytest.mark.parametrize(
    "text",
    [
        "from executorch.exir._serialize._cord import Cord",
        "from torch import _subclasses",
        "def f():\n    import torch._dynamo",
        "with torch._subclasses.fake_tensor.unset_fake_temporarily():\n    pass",
        "import_module('executorch.extension.pybindings._C')",
    ],
)
def test_every_way_to_a_private_module_is_seen(text: str) -> None:
    assert list(private_modules(ast.parse(text)))


@pytest.mark.parametrize(
    "text",
    ["torch.ops.aten._softmax(x, -1, False)", "torch._check(x)", "import torch.export", "f('._')"],
)
def test_operators_and_documented_functions_are_not_private_modules(text: str) -> None:
    assert list(private_modules(ast.parse(text))) == []
