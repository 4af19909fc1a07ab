"""The folders' import rule, read from the syntax tree: lazy and type-only imports count."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.our_packages import PACKAGES

ROOT = Path(__file__).parents[2]

# The contract between building and running: what is on disk, and how text becomes tokens.
CONTRACT_MODULES = {
    "runtime_py.manifest",
    "runtime_py.kv_choice",
    # What is in which slot of a cache: builds plan and trace it, runtimes go back in it.
    "runtime_py.caches",
    "runtime_py.cache_layout",
    # What of a bundle decides its memory: a plan says it of shapes, a manifest of what was built.
    "runtime_py.memory_model",
    "runtime_py.memory_inputs",
    # What an artifact offers runtimes to call.
    "runtime_py.components",
    "runtime_py.golden",
    "runtime_py.golden_cases",
    "runtime_py.golden_coverage",
    "runtime_py.logits_digest",
    "runtime_py.recorded_settings",
    "runtime_py.memory_advice",
    "runtime_py.typed_json",
    "runtime_py.tokenizer",
    "runtime_py.tokenizer_library",
    "runtime_py.chat_template",
    "runtime_py.sampling",
    "runtime_py.readings",
    "runtime_py.lint",
    "runtime_py.errors",
    # How artifacts lie on disk: the build writes and inspects what a strict check reads.
    "runtime_py.engines.executorch.program_file",
    "runtime_py.engines.executorch.deferred_packages",
    "runtime_py.engines.executorch.metadata",
    "runtime_py.int4_packing",
    "runtime_py.terminal",
    # Where things lie that are made once, by builds and for devices.
    "runtime_py.user_cache",
}
# Planning what was not built yet: shapes, recipes, and what a build would say of memory.
PLANNING_MODULES = {
    "edge_build.planned_bundle",
    "edge_build.quantization.recipes",
    "edge_build.errors",
    "models.shapes",
    # A hub id stands for its config.json.
    "models.hub",
    "models.config",
    "models.errors",
}
# Whether a prediction fits a device, which may have to be asked.
FITTING_MODULES = {
    "device_tests.fit.fitting",
    "device_tests.fit.memory_budget",
    "device_tests.errors",
}
# Modules that a package may import besides whole packages.
SINGLE_MODULES = {
    "edge_build": CONTRACT_MODULES,
    "device_tests": PLANNING_MODULES,
    "advisor": FITTING_MODULES,
}
ALLOWED = {
    "models": {"models"},
    "runtime_py": {"runtime_py"},
    "edge_build": {"edge_build", "models"},
    "device_tests": {"device_tests", "runtime_py"},
    # Runs artifacts beside the model that they were built from.
    "evaluation": {"evaluation", "edge_build", "models", "runtime_py"},
    # Ends in a checkpoint, which is built like any other.
    "training": {"training", "edge_build", "models", "runtime_py"},
    # Builds candidates and evaluates them.
    "advisor": {"advisor", "evaluation", "edge_build", "models", "runtime_py"},
}
HEAVY = {"torch", "executorch", "torchao", "onnx", "onnxruntime", "onnxscript", "transformers"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported_modules(tree: ast.AST) -> list[str]:
    """Return what a file imports; modules of the folders without `pocketlm.` before them."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [in_folder(alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used"
            module = in_folder(node.module or "")
            members = [in_folder(f"{module}.{alias.name}") for alias in node.names]
            # Who takes modules out of a package does not use the package itself.
            names += members if all(map(is_ours, members)) else [module, *members]
    return names


def in_folder(module: str) -> str:
    inside = module.removeprefix("pocketlm.")
    return inside if inside.partition(".")[0] in PACKAGES else module


def is_ours(module: str) -> bool:
    """Say whether there is a module of ours with this name, without `pocketlm.`."""
    path = ROOT / module.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def breaches(package: str, modules: list[str]) -> list[str]:
    """Return the imports of ours that the rule forbids."""
    found = []
    for module in modules:
        top = module.partition(".")[0]
        if top not in (*PACKAGES, "pocketlm") or top in ALLOWED[package]:
            continue
        single = SINGLE_MODULES.get(package, set())
        if not any(f"{module}.".startswith(f"{name}.") for name in single):
            found.append(module)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_along_the_rule(package: str) -> None:
    for path in sources(package):
        forbidden = breaches(package, imported_modules(ast.parse(path.read_text())))
        assert not forbidden, f"{path.relative_to(ROOT)} imports {forbidden}"


def test_the_rule_itself_finds_a_breach() -> None:
    assert breaches("models", ["torch", "models.config", "edge_build.spec"]) == ["edge_build.spec"]
    assert breaches("edge_build", ["runtime_py.session", "runtime_py.golden.Golden"]) == [
        "runtime_py.session"
    ]
    planning = ["edge_build.planned_bundle.plan_bundle", "models.shapes", "runtime_py.bundle"]
    assert breaches("device_tests", planning) == []
    assert breaches("device_tests", ["edge_build.build", "edge_build.errors.BuildError"]) == [
        "edge_build.build"
    ]
    # A package's name allows nothing inside it, and what one may import another may not.
    assert breaches("device_tests", ["models.checkpoint", "edge_build"]) == [
        "models.checkpoint",
        "edge_build",
    ]
    assert breaches("runtime_py", ["models.shapes"]) == ["models.shapes"]


def test_every_way_to_import_counts() -> None:
    def found(text: str) -> list[str]:
        return breaches("device_tests", imported_modules(ast.parse(text)))

    assert found("from models import shapes, config") == []
    assert found("from models import shapes, decoder") == ["models.decoder"]
    assert found("from edge_build import quantization") == ["edge_build.quantization"]
    assert found("from runtime_py import open_bundle") == []
    assert found("def f():\n    import edge_build.build") == ["edge_build.build"]
    assert found("if TYPE_CHECKING:\n    from models.decoder import Decoder") == [
        "models.decoder",
        "models.decoder.Decoder",
    ]


def test_modules_that_stand_alone_in_the_rule_are_there() -> None:
    assert all(map(is_ours, PLANNING_MODULES | CONTRACT_MODULES | FITTING_MODULES))


@pytest.mark.parametrize("package", PACKAGES)
def test_command_lines_import_heavy_libraries_only_inside_commands(package: str) -> None:
    path = ROOT / package / "cli.py"
    if not path.exists():
        pytest.skip(f"{package} has no command line yet")
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module in imported_modules(node):
                assert module.partition(".")[0] not in HEAVY, f"{path.name} imports {module}"


def test_runtime_never_imports_a_runtime_library_at_module_level() -> None:
    for path in sources("runtime_py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                for module in imported_modules(node):
                    assert module.partition(".")[0] not in HEAVY, f"{path} imports {module}"


def test_every_import_of_ours_goes_through_the_package() -> None:
    # Without `pocketlm.` a module would be there twice, with two sets of classes.
    for path in tracked_python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                tops = {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                tops = {(node.module or "").partition(".")[0]}
            else:
                continue
            assert tops.isdisjoint(PACKAGES), f"{path}: import it from pocketlm"


def tracked_python_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_nothing_imports_the_command_line() -> None:
    for package in PACKAGES:
        for path in sources(package):
            for module in imported_modules(ast.parse(path.read_text())):
                assert module.partition(".")[0] != "pocketlm", f"{path} imports {module}"


def test_no_module_has_the_name_of_a_standard_library_module() -> None:
    taken = set(sys.stdlib_module_names)
    for package in PACKAGES:
        for path in sources(package):
            if path.stem != "__init__":
                assert path.stem not in taken, f"{path.relative_to(ROOT)} shadows a module"


@pytest.mark.parametrize("package", PACKAGES)
def test_command_lines_start_without_heavy_libraries(package: str) -> None:
    program = f"import sys, pocketlm.{package}.cli; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == []
