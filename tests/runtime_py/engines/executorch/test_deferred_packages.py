"""Modules load without the packages around them, which everybody else finds as they always are."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

import pytest

from pocketlm.runtime_py.engines.executorch.deferred_packages import import_without_packages

NAME = "example_of_a_package"
LIGHT = f"{NAME}.files.light"
OWN = f"""
from {NAME} import heavy
from {NAME}.files.light import NUMBER
TOTAL = NUMBER + heavy.NUMBER
"""
# It cannot load before the package.
HEAVY = f"""
from {NAME} import helper
NUMBER = 40
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package whose own code imports all of its modules."""
    folder = tmp_path / NAME
    (folder / "files").mkdir(parents=True)
    (folder / "files" / "__init__.py").touch()
    (folder / "__init__.py").write_text(OWN)
    (folder / "heavy.py").write_text(HEAVY)
    (folder / "helper.py").write_text(f"from {NAME}.heavy import NUMBER")
    (folder / "files" / "light.py").write_text("NUMBER = 2")
    (folder / "files" / "later.py").write_text("NUMBER = 3")
    monkeypatch.syspath_prepend(tmp_path)
    before = [*sys.meta_path]
    yield folder
    sys.meta_path[:] = before
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


@pytest.fixture
def finders() -> list[object]:
    """What finds modules before the package is deferred; in some processes executorch is."""
    return [*sys.meta_path]


def loaded() -> set[str]:
    return {name for name in sys.modules if name.startswith(NAME)}


@pytest.fixture
def deferred(package: Path) -> Path:
    # `helper` takes a name that `heavy` has by then only where the package's own order is kept.
    (package / "heavy.py").write_text(f"NUMBER = 40\nfrom {NAME} import helper")
    import_without_packages([LIGHT], [NAME])
    return package


def test_a_module_loads_alone(deferred: Path) -> None:
    assert sys.modules[LIGHT].NUMBER == 2
    assert not hasattr(sys.modules[NAME], "__wrapped__"), "tools ask every module for such names"
    assert import_module(f"{NAME}.files.later").NUMBER == 3
    assert loaded() == {NAME, f"{NAME}.files", LIGHT, f"{NAME}.files.later"}


@pytest.mark.parametrize(
    "use",
    [
        f"from {NAME} import TOTAL",
        f"import {NAME}; TOTAL = {NAME}.TOTAL",
        f"import {NAME}.heavy; TOTAL = {NAME}.TOTAL",
        f"import {NAME}.helper as helper; TOTAL = helper.NUMBER + 3",
        f"from {NAME}.heavy import helper; TOTAL = helper.NUMBER + 3",
        f"from {NAME} import *; from {NAME}.heavy import NUMBER; assert TOTAL == NUMBER + 3",
        f"import {LIGHT}; TOTAL = {NAME}.heavy.NUMBER + {LIGHT}.NUMBER",
        f"import {LIGHT} as light; from {NAME}.files import light as same; assert light is same; "
        f"from {NAME} import TOTAL",
    ],
)
def test_everybody_finds_the_whole_package(finders: list[object], deferred: Path, use: str) -> None:
    sys.modules[LIGHT].NUMBER = 3  # what is loaded is not loaded again
    names: dict[str, object] = {}
    exec(use, names)
    assert names["TOTAL"] == 43
    package, heavy = sys.modules[NAME], sys.modules[f"{NAME}.heavy"]
    assert package.heavy is heavy
    assert heavy.__spec__ is not None
    assert heavy.__spec__.origin == str(deferred / "heavy.py")
    (deferred / "__init__.py").write_text("TOTAL = 0")
    assert import_module(NAME).TOTAL == 43, "its code runs once"
    assert sys.meta_path == finders, "what is loaded needs no finder"


def test_a_name_that_it_does_not_have_is_missing(deferred: Path) -> None:
    with pytest.raises(AttributeError, match="total"):
        _ = sys.modules[NAME].total
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        import_module(f"{NAME}.nowhere")


def test_every_other_finder_is_asked_too(deferred: Path) -> None:
    path = deferred.parent / "elsewhere.py"
    path.write_text("NUMBER = 5")
    name = f"{NAME}.elsewhere"

    class Elsewhere(MetaPathFinder):
        """Finds one module, as the finder of an editable installation does."""

        def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
            return spec_from_file_location(name, path) if fullname == name else None

    sys.meta_path.insert(1, Elsewhere())
    assert import_module(name).NUMBER == 5


def test_own_code_that_fails_is_tried_again(deferred: Path) -> None:
    own = (deferred / "__init__.py").read_text()
    (deferred / "__init__.py").write_text("raise ImportError('half installed')")
    for _ in range(2):
        with pytest.raises(ImportError, match="half installed"):
            exec(f"from {NAME} import TOTAL")
    (deferred / "__init__.py").write_text(f"{own}\n# of another size than what was compiled\n")
    assert import_module(NAME).TOTAL == 42


def test_a_loaded_package_stays_as_it_is(package: Path) -> None:
    (package / "heavy.py").write_text("NUMBER = 40")
    whole, finders = import_module(NAME), [*sys.meta_path]
    import_without_packages([LIGHT], [NAME])
    assert import_module(NAME) is whole
    assert sys.meta_path == finders


@pytest.mark.usefixtures("package")
def test_what_is_missing_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="no_such_package"):
        import_without_packages([], ["no_such_package"])
    with pytest.raises(ImportError, match="no_such_package"):
        import_without_packages([], ["no_such_package.part"])
    with pytest.raises(ImportError, match=r"files\.missing"):
        import_without_packages([f"{NAME}.files.missing"], [NAME])


def test_a_pte_is_read_without_the_compiler_which_loads_afterwards(pico_bundle: Path) -> None:
    pytest.importorskip("executorch")
    model = pico_bundle / "executorch" / "model.pte"
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pocketlm.edge_build.backends.executorch.inspection import inspect_program\n"
        "from pocketlm.runtime_py.engines.executorch import program_file\n"
        f"assert inspect_program(Path({str(model)!r})).linears\n"
        f"with program_file.open_program(Path({str(model)!r})) as opened:\n"
        "    data = program_file.program_to_bytes(opened.program)\n"
        "assert program_file.program_from_bytes(data) == opened.program\n"
        "assert 'executorch.exir.program' not in sys.modules\n"
        "light = sys.modules['executorch.exir.schema']\n"
        "from executorch.backends.xnnpack.partition.xnnpack_partitioner import "
        "XnnpackPartitioner\n"
        "from executorch.exir import schema, to_edge_transform_and_lower\n"
        "assert schema is light\n"
        "assert to_edge_transform_and_lower.__module__ == 'executorch.exir.program._program'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
