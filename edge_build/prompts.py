"""Texts → token ids for what a build runs itself: golden answers and calibration."""

from pocketlm.edge_build.golden_texts import LONG_TEXT
from pocketlm.edge_build.text.tokenizer_reading import published_tokenizer
from pocketlm.edge_build.text_files import TextFiles
from pocketlm.runtime_py.tokenizer import Tokenizer
from pocketlm.runtime_py.tokenizer_library import LibraryTokenizer


def open_tokenizer(text: TextFiles) -> Tokenizer:
    """Return the checkpoint's tokenizer, as a runtime will use it."""
    completed = text.tokenizer_json()
    if completed is None:
        opened = published_tokenizer(text.files)
    else:
        opened = LibraryTokenizer.from_text(completed)
    return Tokenizer(opened, text.bos_id)


def long_ids(tokenizer: Tokenizer, length: int) -> list[int]:
    """Return `length` ids of one text, repeated with a count where it is too short."""
    text = LONG_TEXT
    while len(ids := tokenizer.encode_prompt(text)) < length:
        text = f"{text}\n{len(text)}. {LONG_TEXT}"
    return ids[:length]
