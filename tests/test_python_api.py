"""import pocketlm: what it offers, what it loads, and that its page is true."""

import logging
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import pocketlm
from pocketlm.advisor.question import Question
from pocketlm.device_tests.errors import DeviceError
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.progress import Event, StageFinished, StagesPlanned
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.models.errors import ModelError
from pocketlm.runtime_py.bundle import Bundle, read_bundle
from pocketlm.runtime_py.errors import RunError
from tests.staged_build import StagedBuild, make_staged_build
from tools import python_reference

PAGE = python_reference.PAGE.read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"```python (\w+)\n(.*?)```", PAGE, re.DOTALL))


def test_the_page_is_what_the_package_says_of_itself() -> None:
    assert python_reference.render() == PAGE, (
        "docs/python-api.md is stale; run: python -m tools.python_reference"
    )


def test_the_page_describes_every_name() -> None:
    for name in pocketlm.__all__:
        assert name.strip("_") in PAGE


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, pocketlm\n"
        "assert set(pocketlm.__all__) <= set(dir(pocketlm))\n"
        "heavy = {'torch', 'numpy', 'onnxruntime', 'executorch', 'tokenizers', 'rich', 'click'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_every_name_is_there_and_no_other() -> None:
    for name in pocketlm.__all__:
        assert getattr(pocketlm, name) is not None
    assert pocketlm.__version__ == version("pocketlm")
    errors = pocketlm.ModelError, pocketlm.BuildError, pocketlm.RunError, pocketlm.DeviceError
    assert errors == (ModelError, BuildError, RunError, DeviceError)
    with pytest.raises(AttributeError, match="module 'pocketlm' has no attribute 'nothing'"):
        pocketlm.nothing  # type: ignore[attr-defined]  # noqa: B018


@pytest.fixture
def in_folder(pico_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where "pico" is a bundle."""
    (tmp_path / "pico").symlink_to(pico_bundle)
    monkeypatch.chdir(tmp_path)
    return pico_bundle


@pytest.mark.parametrize("example", ["chat", "generate", "verify", "fit", "session"])
def test_an_example_of_the_page_runs_on_pico(
    example: str, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(EXAMPLES[example], {})
    shown = capsys.readouterr().out
    expected = {
        "chat": "The class Counter is in the module collections",
        "generate": " length ",
        "verify": "onnx True 0.",
        "fit": "executorch fits ",
        "session": "2\n",
    }
    assert expected[example] in shown


def test_the_example_of_a_build_asks_for_what_it_says(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[BuildSpec] = []

    def build(spec: BuildSpec, notify: object) -> Any:
        asked.append(spec)
        return read_bundle(in_folder).manifest

    monkeypatch.chdir(in_folder.parent.parent)
    monkeypatch.setattr("pocketlm.edge_build.build.build", build)
    exec(EXAMPLES["build"], {})
    (spec,) = asked
    assert (spec.out, spec.backends, spec.context_length) == (Path("pico"), ("onnx",), 1024)
    assert (spec.checkpoint / "model.safetensors").is_file()
    assert capsys.readouterr().out == "pico int4-g32\n"


def test_the_example_of_a_profile_asks_for_what_it_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Double:
        verdict = "ended"

        def to_json(self) -> str:
            return "{}"

    asked = []

    def run_profile(request: Any, progress: Any) -> Double:
        asked.append((request.bundle, request.target, request.decode_tokens))
        progress.step("step")
        progress.line("line")
        return Double()

    monkeypatch.setattr("pocketlm.device_tests.profiling.request.run_profile", run_profile)
    exec(EXAMPLES["profile"], {})
    assert asked == [("pico", "adb", 64)]
    assert capsys.readouterr().out == "ended {}\n"


def test_the_example_of_an_advice_asks_for_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Question] = []

    def advise(question: Question, watch: object) -> Any:
        asked.append(question)
        return SimpleNamespace(chosen=None)

    monkeypatch.setattr("pocketlm.advisor.advising.advise", advise)
    exec(EXAMPLES["advise"], {})
    expected = Question(
        "pico", Path("book.txt"), candidates=("int4-g32",), backends=("onnx",), tokens=300
    )
    assert asked == [expected]


@pytest.fixture
def staged_build(
    tmp_path: Path, tiny_checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> StagedBuild:
    """A build of a tiny model whose stages are doubles."""
    return make_staged_build(tmp_path, tiny_checkpoint("gemma3_text"), monkeypatch)


def test_a_build_returns_the_bundle_and_logs_what_it_does(
    staged_build: StagedBuild, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pocketlm")
    spec = staged_build.spec
    built = pocketlm.build(spec.checkpoint, str(spec.out), context_length=64, chunk=8)
    assert isinstance(built, Bundle)
    assert built.manifest == read_bundle(spec.out).manifest
    assert any(message.startswith("quantize: done in ") for message in caplog.messages)
    with pytest.raises(BuildError, match="exists"):
        pocketlm.build(spec.checkpoint, spec.out, context_length=64, chunk=8)


def test_events_of_a_build_go_to_whoever_asks(staged_build: StagedBuild) -> None:
    events: list[Event] = []
    spec = staged_build.spec
    pocketlm.build(spec.checkpoint, spec.out, context_length=64, chunk=8, notify=events.append)
    planned = [event.names for event in events if isinstance(event, StagesPlanned)]
    finished = [event.report.name for event in events if isinstance(event, StageFinished)]
    assert planned == [tuple(finished)], "stages are planned in the order in which they are done"


def test_mistakes_are_the_errors_that_it_names(tmp_path: Path) -> None:
    with pytest.raises(pocketlm.ModelError, match="no such folder"):
        pocketlm.build("no/such/folder", tmp_path / "out")
    with pytest.raises(pocketlm.RunError):
        pocketlm.open_session(tmp_path)
    with pytest.raises(pocketlm.DeviceError, match="there is no such profile"):
        pocketlm.fit("gemma-3-1b", devices=["phone-7gb"])
    with pytest.raises(pocketlm.RunError):
        pocketlm.verify(tmp_path)
    assert not list(tmp_path.iterdir())
