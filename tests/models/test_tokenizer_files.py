"""Finding the tokenizer beside the weights."""

from pathlib import Path

import pytest

from pocketlm.models.errors import ModelError
from pocketlm.models.tokenizer_files import find_tokenizer


def test_the_files_that_are_there_are_found(small_checkpoint: Path) -> None:
    files = find_tokenizer(small_checkpoint)
    assert files.tokenizer_json == small_checkpoint / "tokenizer.json"
    assert files.chat_template == small_checkpoint / "chat_template.jinja"
    assert files.tokenizer_model is None


def test_a_sentencepiece_model_alone_is_enough(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").touch()
    assert find_tokenizer(tmp_path).tokenizer_model == tmp_path / "tokenizer.model"


def test_a_missing_tokenizer_says_which_files_are_needed(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer\.json and no tokenizer\.model"):
        find_tokenizer(tmp_path)


def test_a_tokenizer_in_the_oldest_format_comes_with_the_way_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").touch()
    with pytest.raises(ModelError, match="AutoTokenizer"):
        find_tokenizer(tmp_path)
