"""The edge-case texts cover what they say, each once."""

import unicodedata

from pocketlm.runtime_py.lint.edge_cases import edge_case_chats, edge_case_texts


def test_there_are_some_hundred_texts_each_once_and_a_dozen_chats() -> None:
    texts = [text.text for text in edge_case_texts()]
    assert len(texts) == len(set(texts)) >= 376
    assert len(edge_case_chats()) >= 12


def test_at_least_seventeen_languages_are_among_them_composed_and_decomposed() -> None:
    kinds = {text.kind for text in edge_case_texts()}
    languages = {kind.removeprefix("language ") for kind in kinds if kind.startswith("language")}
    assert len(languages) >= 17
    decomposed = [text for text in edge_case_texts() if text.kind.startswith("decomposed")]
    assert sum(not unicodedata.is_normalized("NFC", text.text) for text in decomposed) >= 12
