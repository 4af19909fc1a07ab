"""What was measured is measured once: kept whole, under a name that says what it depends on."""

from pathlib import Path

import numpy as np
import pytest

from pocketlm.evaluation import kept_passages as module
from pocketlm.evaluation.kept_passages import KeptPassages, kept_passages
from pocketlm.evaluation.passages import Passage

COLUMNS = np.arange(12.0).reshape(4, 3)
PASSAGES = [Passage((2, 5, 6, 7), (1, 2, 3))]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POCKETLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_passage_is_read_as_it_was_written() -> None:
    kept = kept_passages(["a", None], PASSAGES)
    assert kept.read(0, 3) is None
    kept.write(0, COLUMNS)
    found = kept_passages(["a", None], PASSAGES).read(0, 3)
    assert found is not None and np.array_equal(found, COLUMNS)
    kept.clear()
    assert kept.read(0, 3) is None


@pytest.mark.parametrize("other", [["b", None], ["a", "c"]])
def test_another_subject_or_reference_finds_nothing(other: list[str | None]) -> None:
    kept_passages(["a", None], PASSAGES).write(0, COLUMNS)
    assert kept_passages(other, PASSAGES).read(0, 3) is None


def test_other_tokens_or_places_find_nothing() -> None:
    kept_passages(["a", None], PASSAGES).write(0, COLUMNS)
    for passage in (Passage((2, 5, 6, 8), (1, 2, 3)), Passage((2, 5, 6, 7), (1, 2))):
        assert kept_passages(["a", None], [passage]).read(0, 3) is None


@pytest.mark.parametrize("damage", [b"", b"no array", None])
def test_a_damaged_file_is_as_if_it_were_not_there(damage: bytes | None) -> None:
    kept = kept_passages(["a", None], PASSAGES)
    kept.write(0, COLUMNS)
    path = kept.folder / "0.npy"
    path.write_bytes(path.read_bytes()[:-8] if damage is None else damage)
    assert kept.read(0, 3) is None


def test_of_another_length_nothing_is_taken(tmp_path: Path) -> None:
    kept = KeptPassages(tmp_path)
    kept.write(0, COLUMNS)
    assert kept.read(0, 4) is None


def test_old_evaluations_make_room(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(module, "_MOST_KEPT", 2)
    for name in "abcd":
        kept_passages([name, None], PASSAGES).write(0, COLUMNS)
    assert len([*(cache / "evaluations").iterdir()]) <= 3
    assert kept_passages(["d", None], PASSAGES).read(0, 3) is not None
