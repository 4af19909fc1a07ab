"""Every family, backend, engine, method and recipe meets its protocol, found by name."""

import subprocess
import sys
from pathlib import Path

import pytest

from pocketlm.device_tests import runners
from pocketlm.device_tests.runners.device_runner import DeviceRunner
from pocketlm.edge_build import backends
from pocketlm.edge_build.backend import Backend
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.quantization import methods, recipes
from pocketlm.models import families, shapes
from pocketlm.models.errors import ModelError
from pocketlm.models.family import Family
from pocketlm.runtime_py import engines
from pocketlm.runtime_py.engine import Engine
from pocketlm.runtime_py.errors import RunError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", families.NAMES)
def test_family_offers_its_constant_under_its_file_name(name: str) -> None:
    family = families.load(name)
    assert isinstance(family, Family)
    assert family.model_type == name


@pytest.mark.parametrize("name", backends.names())
def test_backend_offers_its_constant_under_its_folder_name(name: str) -> None:
    backend = backends.load(name)
    assert isinstance(backend, Backend)
    assert backend.name == name
    assert callable(backend.lower)


@pytest.mark.parametrize("name", engines.names())
def test_engine_offers_its_constant_under_its_folder_name(name: str) -> None:
    engine = engines.load(name)
    assert isinstance(engine, Engine)
    assert engine.name == name
    assert engine.distributions


@pytest.mark.parametrize("name", runners.names())
def test_device_runner_offers_its_constant_under_its_folder_name(name: str) -> None:
    runner = runners.load(name)
    assert isinstance(runner, DeviceRunner)
    assert runner.name == name
    assert {wheel.distribution for wheel in runner.wheels} == {runner.distribution}
    assert runner.distribution in engines.load(name).distributions


def test_a_backend_has_an_engine_and_a_device_runner_and_they_a_backend() -> None:
    assert backends.names()
    assert backends.names() == engines.names() == runners.names()


@pytest.mark.parametrize("name", methods.names())
def test_quantization_method_offers_its_constant_under_its_file_name(name: str) -> None:
    method = methods.load(name)
    assert isinstance(method, methods.Method)
    assert callable(method.prepare)


def test_every_method_stands_on_the_page_of_methods() -> None:
    # Recipes of users name them: none may go.
    known = {"awq", "awq+gptq", "checkpoint_grid", "gptq", "hqq", "round_to_nearest"}
    assert known <= {*methods.names()}
    page = (ROOT / "docs" / "quantization.md").read_text(encoding="utf-8")
    assert [name for name in methods.names() if f"**`{name}`**" not in page] == []
    assert methods.load("awq+gptq").folds and methods.load("awq+gptq").statistics


def test_every_recipe_stands_on_the_page_of_recipes() -> None:
    # Bundles and commands of users name them: none may go.
    assert {
        "none", "int8-channel", "int4-channel", "int4-g32-head8", "int8-head4",
        "int4-g32", "int4-g64", "int4-g128",
    } <= {*recipes.NAMES}  # fmt: skip
    page = (ROOT / "docs" / "quantization.md").read_text(encoding="utf-8")
    assert [name for name in recipes.NAMES if f"`{name}`" not in page] == []


@pytest.mark.parametrize("name", shapes.NAMES)
def test_shape_loads(name: str) -> None:
    assert shapes.load(name).config.num_layers > 0


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match="gemma3_text"):
        families.load("gemma3_txt")
    with pytest.raises(BuildError, match="did you mean onnx"):
        backends.load("onx")
    with pytest.raises(RunError, match="executorch"):
        engines.load("exetorch")
    with pytest.raises(BuildError, match="did you mean int4-g32"):
        recipes.load("int4-g23")
    with pytest.raises(BuildError, match=r"known: .*round_to_nearest"):
        methods.load("gptqq")


def test_help_loads_no_heavy_library() -> None:
    # The 0.3 s of `pocketlm --help` is a benchmark's to time; what costs time is checked here.
    code = (
        "import sys; from pocketlm import main; "
        "heavy = {'torch', 'numpy', 'rich', 'tokenizers', 'onnxruntime', 'executorch', 'jinja2'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
