"""A candidate through its real build, artifact and session; killed in the middle, it goes on."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from pocketlm.advisor.candidates import Candidate
from pocketlm.advisor.measuring import measure
from pocketlm.advisor.speed import measure_speed
from pocketlm.advisor.task import Sources, Task
from pocketlm.advisor.watch import NoWatch
from pocketlm.cli import main
from pocketlm.edge_build.spec import BuildSpec
from tests.advisor.conftest import Resumed


def test_a_killed_run_goes_on(resumed: Resumed) -> None:
    assert "1 of 2 candidates were measured by an earlier run" in resumed.said
    assert "quantize: done by an earlier run" in resumed.said
    assert resumed.document["chosen"] == "int8-channel on onnx"
    for one in resumed.document["candidates"]:
        record = one["record"]
        assert record["speed"]["decode_tokens_per_s"] > 0 < record["speed"]["prefill_tokens_per_s"]
        assert record["machine"]["threads"] > 0 and record["machine"]["processor"]
        assert 0 < record["kl_error_nats"] < record["evaluation"]["kl_nats"]["mean"]


def test_the_figures_are_those_of_eval(resumed: Resumed) -> None:
    asked, record = resumed.asked, resumed.document["candidates"][-1]["record"]
    words = ("--text", asked.text, "--against", asked.checkpoint, "--tokens", 40, "--json")
    shown = CliRunner().invoke(main, ["eval", record["bundle"], *map(str, words)]).stdout
    evaluated = json.loads(shown)
    del evaluated["reused_tokens"]
    assert evaluated == record["evaluation"]


class _BuildingError(Exception):
    """A build began."""


class _EvaluatingError(Exception):
    """An evaluation began."""


def damaged(bundle: Path, damage: str) -> None:
    if damage == "no bundle":
        shutil.rmtree(bundle)
    elif damage == "no manifest":
        (bundle / "manifest.json").unlink()
    elif damage == "a file that was cut":
        (model,) = (bundle / "onnx").glob("*.onnx")
        model.write_bytes(model.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "fresh", "first"),
    [
        ("none", False, _EvaluatingError),
        ("none", True, _BuildingError),
        ("no bundle", False, _BuildingError),
        ("no manifest", False, _BuildingError),
        ("a file that was cut", False, _BuildingError),
    ],
)
def test_a_bundle_is_built_where_no_whole_one_is_there(
    damage: str,
    fresh: bool,
    first: type[Exception],
    resumed: Resumed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def build(spec: BuildSpec, notify: object) -> None:
        assert spec.replace and spec.fresh is fresh
        raise _BuildingError

    def evaluate(*arguments: object) -> None:
        raise _EvaluatingError

    monkeypatch.setattr("pocketlm.advisor.measuring.build", build)
    monkeypatch.setattr("pocketlm.advisor.measuring.artifact_subject", evaluate)
    bundle = tmp_path / "bundle"
    shutil.copytree(resumed.document["candidates"][0]["record"]["bundle"], bundle)
    damaged(bundle, damage)
    sources = Sources("checkpoint", "digest", "text", "digest")
    candidate = Candidate("int4-g32", None, "onnx")
    task = Task(candidate, sources, False, None, 40, None, "key", str(bundle), fresh)
    with pytest.raises(first):
        measure(task, SimpleNamespace(tokens=40), NoWatch())  # type: ignore[arg-type]


class SessionDouble:
    """Counts what is processed."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def reset(self) -> None:
        self.calls.append(("reset", 0))

    def prefill(self, tokens: list[int]) -> None:
        self.calls.append(("prefill", len(tokens)))

    def decode(self, token: int) -> None:
        self.calls.append(("decode", token))


@pytest.mark.parametrize(
    ("tokens", "prefilled", "decoded"), [(2, 1, 1), (100, 50, 50), (300, 236, 64), (2048, 512, 64)]
)
def test_speed_is_of_a_prompt_and_of_the_tokens_after_it(
    tokens: int, prefilled: int, decoded: int
) -> None:
    session = SessionDouble()
    speed = measure_speed(session, range(tokens))  # type: ignore[arg-type]
    assert (speed.prefill_tokens, speed.decode_tokens) == (prefilled, decoded)
    once = [("reset", 0), ("prefill", prefilled)]
    once += [("decode", token) for token in range(prefilled, prefilled + decoded)]
    # Once to warm up.
    assert session.calls == 4 * once
    assert speed.prefill_tokens_per_s > 0 and speed.decode_tokens_per_s > 0
