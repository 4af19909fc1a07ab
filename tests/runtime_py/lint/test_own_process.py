"""A module in a process of its own says what went wrong, and a busy machine is not that."""

from pathlib import Path

import pytest

from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.lint.own_process import run_module


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "made_by_a_test.py"


def test_a_module_gets_its_arguments(module: Path, tmp_path: Path) -> None:
    module.write_text("import pathlib, sys\npathlib.Path(sys.argv[1]).write_text(sys.argv[2])\n")
    run_module(module.stem, (tmp_path / "out", 3), "the work")
    assert (tmp_path / "out").read_text() == "3"


def test_the_last_line_of_a_failure_is_the_message(module: Path) -> None:
    module.write_text("print('noise')\nraise ValueError('no such thing')\n")
    with pytest.raises(RunError, match=r"^the work: ValueError: no such thing \(exit code 1\)$"):
        run_module(module.stem, (), "the work")


def test_processor_time_is_limited(module: Path) -> None:
    limit = (
        "from pocketlm.runtime_py.lint.own_process import limit_processor_time as limit\nlimit(1)\n"
    )
    module.write_text(limit + "while True: pass\n")
    with pytest.raises(RunError, match=r"^the work: no answer in 300 s of processor time$"):
        run_module(module.stem, (), "the work")
