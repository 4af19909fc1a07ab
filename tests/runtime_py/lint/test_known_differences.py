"""A known difference explains its own runtime, release and kind of text, and nothing else."""

from pocketlm.runtime_py.lint.known_differences import KNOWN, explained
from pocketlm.runtime_py.lint.readers import NAMES

DECOMPOSED = "e\u0301"


def test_every_row_names_a_reader_and_says_what_to_do() -> None:
    for row in KNOWN:
        assert {"sentencepiece": "sentencepiece_model"}.get(row.runtime, row.runtime) in NAMES
        assert row.reason and row.advice


def test_a_row_explains_the_texts_that_its_trait_touches() -> None:
    row = explained("executorch", "1.5.0", "text", DECOMPOSED)
    assert row is not None and row.kind == "text that is not NFC"


def test_other_texts_runtimes_and_releases_stay_unexplained() -> None:
    assert explained("executorch", "1.5.0", "text", "plain") is None
    assert explained("executorch", "1.5.0", "chat", DECOMPOSED) is None
    assert explained("sentencepiece", "0.2.1", "text", DECOMPOSED) is None
    assert explained("executorch", "1.6.0", "text", DECOMPOSED) is None
