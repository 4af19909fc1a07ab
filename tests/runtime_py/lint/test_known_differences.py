"""A known difference explains its own runtime, release and kind of text, and nothing else."""

from pocketlm.runtime_py.lint import readers
from pocketlm.runtime_py.lint.known_differences import explained

DECOMPOSED = "e\u0301"
EXECUTORCH = readers.load("executorch").known


def test_every_row_says_what_to_do() -> None:
    rows = [row for name in readers.names() for row in readers.load(name).known]
    assert rows
    for row in rows:
        assert row.reason and row.advice


def test_a_row_explains_the_texts_that_its_trait_touches() -> None:
    row = explained(EXECUTORCH, "1.5.0", "text", DECOMPOSED)
    assert row is not None and row.kind == "text that is not NFC"


def test_other_texts_runtimes_and_releases_stay_unexplained() -> None:
    assert explained(EXECUTORCH, "1.5.0", "text", "plain") is None
    assert explained(EXECUTORCH, "1.5.0", "chat", DECOMPOSED) is None
    assert explained(readers.load("sentencepiece_model").known, "0.2.1", "text", DECOMPOSED) is None
    assert explained(EXECUTORCH, "1.6.0", "text", DECOMPOSED) is None
