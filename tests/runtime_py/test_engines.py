import sys
from pathlib import Path
from types import ModuleType

import pytest

from pocketlm.runtime_py import engines
from pocketlm.runtime_py.engine import Engine
from pocketlm.runtime_py.errors import RunError


def test_engines_are_the_folders_beside_each_other_each_with_its_memory_model() -> None:
    folder = Path(engines.__file__).parent
    assert set(engines.names()) == {path.parent.name for path in folder.glob("*/__init__.py")}
    assert set(engines.names()) == {path.parent.name for path in folder.glob("*/memory.py")}


def test_an_unknown_engine_lists_the_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "names", lambda: ("executorch", "onnx"))
    with pytest.raises(RunError) as caught:
        engines.load("onx")
    assert "--backend onx: unknown; did you mean onnx?" in str(caught.value)
    assert "known: executorch, onnx" in str(caught.value)


def test_an_engine_is_loaded_by_its_folder_name(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("pocketlm.runtime_py.engines.fake.engine")
    module.ENGINE = Engine("fake", (), lambda *_: None)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pocketlm.runtime_py.engines.fake.engine", module)
    monkeypatch.setattr(engines, "names", lambda: ("fake",))
    assert engines.load("fake").name == "fake"
