import json
from collections.abc import Callable
from typing import Any

import pytest

from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.golden import Golden


@pytest.fixture
def golden(fake_bundle: Any) -> Golden:
    return Golden.from_json((fake_bundle.folder / "golden/onnx.json").read_text())


def test_reading_what_was_written_gives_the_same_answers(golden: Golden) -> None:
    assert Golden.from_json(golden.to_json()) == golden
    assert len(golden.cases) == 2


def test_a_case_finds_the_digest_of_a_step(golden: Golden) -> None:
    case = golden.cases[0]
    found = case.digest(2)
    assert found is not None
    assert found.position == len(case.prompt_ids) + 1
    assert case.digest(99) is None


CHANGES: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda d: d.update(format_version=1), "format version 1, this pocketlm reads 2; update"),
    (lambda d: d.pop("format_version"), "format version None"),
    (lambda d: d.pop("tolerance"), "tolerance is missing"),
    (lambda d: d["cases"][0].update(prompt_ids=["a"]), "cases[0].prompt_ids[0]: expected an int"),
    (lambda d: d["cases"][0].update(prompt_ids=[]), "needs a prompt and a continuation"),
    (lambda d: d["cases"][0].update(margins=[]), "0 margins for 4 continuation_ids"),
    (
        lambda d: d["cases"][0]["logits"][0].update(position=50),
        "case 'short': digest of position 50 is outside",
    ),
    (lambda d: d["cases"][0]["logits"][0].update(std=0.0), "std=0.0 is not above 0"),
    (
        lambda d: d["cases"][0]["logits"][0].update(top_logits=[1.0]),
        "8 top_ids and 1 top_logits; both must have the same length",
    ),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_wrong_answers_are_named(
    golden: Golden, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    document = json.loads(golden.to_json())
    change(document)
    with pytest.raises(RunError) as caught:
        Golden.from_json(json.dumps(document))
    assert message in str(caught.value)
    assert "build the bundle again" in str(caught.value)
