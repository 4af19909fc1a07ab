"""The plot of a result."""

import argparse
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import command, plot
from tests.benchmarks.test_table import document, entry

SVG = "{http://www.w3.org/2000/svg}"


def result() -> dict[str, Any]:
    return document("depth", ours=entry(None, 0.025, 400), llama=entry(None, 0.05, 800))


def test_plot_draws_every_system_in_both_panels() -> None:
    pytest.importorskip("matplotlib", reason=plot.MISSING)
    root = ElementTree.fromstring(plot.draw(result()))
    colours = {"#0072b2", "#d55e00"}
    panels = [root.find(f".//{SVG}g[@id='axes_{place}']") for place in (1, 2)]
    for panel in panels:
        assert panel is not None
        lines = [path for path in panel.iter(f"{SVG}path") if path.get("clip-path")]
        drawn = {colour for path in lines for colour in colours if colour in path.get("style", "")}
        assert drawn == colours
    texts = {text.text for text in root.iter(f"{SVG}text")}
    assert {"ours", "llama", "decode, tokens/s", "model memory, MB"} <= texts


def test_the_same_result_gives_the_same_file() -> None:
    pytest.importorskip("matplotlib", reason=plot.MISSING)
    assert plot.draw(result()) == plot.draw(result())
    assert "<dc:date>" not in plot.draw(result())


def test_without_matplotlib_the_result_is_written_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plot, "can_draw", lambda: False)
    out = tmp_path / "result.json"
    command._save(result(), argparse.Namespace(out=out))
    assert out.read_text() == json.dumps(result(), indent=1) + "\n"
    assert list(tmp_path.iterdir()) == [out]
    assert capsys.readouterr().err == "no plot: needs matplotlib; pip install -e '.[plots]'\n"


def test_with_matplotlib_the_plot_stands_beside_the_result(tmp_path: Path) -> None:
    assert plot.can_draw() == (find_spec("matplotlib") is not None)
    pytest.importorskip("matplotlib", reason=plot.MISSING)
    command._save(result(), argparse.Namespace(out=tmp_path / "result.json"))
    assert (tmp_path / "result.svg").read_text() == plot.draw(result())
