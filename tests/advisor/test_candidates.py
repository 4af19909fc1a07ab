"""Names of candidates, and the default list."""

from pathlib import Path

import pytest

from pocketlm.advisor.candidates import DEFAULTS, Candidate, candidates
from pocketlm.edge_build import backends
from pocketlm.runtime_py.errors import RunError

ROOT = Path(__file__).parents[2]


def test_a_name_is_a_recipe_and_perhaps_a_method() -> None:
    found = candidates(("int4-g32", "int4-g32+gptq", "int4-g32"), ("one", "two"))
    assert found == (
        Candidate("int4-g32", None, "one"),
        Candidate("int4-g32", "gptq", "one"),
        Candidate("int4-g32", None, "two"),
        Candidate("int4-g32", "gptq", "two"),
    )
    assert found[1].name == "int4-g32+gptq on one"


def test_a_recipe_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a+b.toml"
    file.write_text('[[rules]]\npattern = "*"\nbits = 8\n')
    monkeypatch.chdir(tmp_path)
    plain, calibrated = candidates(("a+b.toml", "a+b.toml+gptq"), ("one",))
    assert (plain.recipe, plain.method) == (str(file), None)
    assert (calibrated.recipe, calibrated.method) == (str(file), "gptq")
    assert calibrated.name == "a+b.toml+gptq on one"


def test_every_default_is_known_and_has_its_row_in_the_docs() -> None:
    page = (ROOT / "docs" / "advise.md").read_text(encoding="utf-8")
    assert len(candidates((), backends.names())) == len(DEFAULTS) * len(backends.names())
    for default in DEFAULTS:
        assert f"| `{default.quantization}` | {default.reason} |" in page


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("int4-g33", "--candidates int4-g33: unknown; did you mean int4-g32? known: none, int8"),
        ("int4-g32+gptk", "method gptk: unknown; did you mean gptq? known: awq, awq+gptq"),
        ("nowhere.toml", "--candidates nowhere.toml: --recipe nowhere.toml: no such file"),
        ("+gptq", "--candidates : unknown"),
    ],
)
def test_an_unknown_name_lists_the_known(
    named: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError) as caught:
        candidates((named,), ("one",))
    assert message in str(caught.value)
