"""Text → sequences."""

from pathlib import Path

import pytest
import torch

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.prompts import open_tokenizer
from pocketlm.edge_build.text.checkpoint_files import CheckpointFiles
from pocketlm.edge_build.text_files import read_text_files
from pocketlm.models.checkpoint import open_checkpoint
from pocketlm.runtime_py.tokenizer import Tokenizer
from pocketlm.training import training_text
from pocketlm.training.training_text import encode_in_pieces, read_training_text
from tests.conftest import PICO


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    checkpoint = open_checkpoint(PICO)
    return open_tokenizer(read_text_files(CheckpointFiles.of(checkpoint), checkpoint.config))


def test_every_sequence_begins_with_bos_and_none_repeats_a_token(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "text.txt"
    path.write_text((PICO / "held_out.txt").read_text(encoding="utf-8")[:4000], encoding="utf-8")
    text = read_training_text(path, tokenizer, 32, seed=0)
    rows = torch.cat((text.train, text.held_out))
    assert (rows[:, 0] == tokenizer.bos_id).all()
    ids = tokenizer.encode(path.read_text(encoding="utf-8"))
    assert rows[:, 1:].flatten().tolist() == ids[: rows[:, 1:].numel()]
    assert len(text.held_out) == max(1, len(rows) // 20)


def test_each_sequence_comes_once_before_any_comes_again(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "text.txt"
    path.write_text((PICO / "held_out.txt").read_text(encoding="utf-8")[:3000], encoding="utf-8")
    text = read_training_text(path, tokenizer, 32, seed=1)
    count = len(text.train)
    epoch = torch.cat([text.batch(step, 1) for step in range(count)])
    assert sorted(epoch.tolist()) == sorted(text.train.tolist())
    assert epoch.tolist() != text.train.tolist()
    # A batch may end one epoch and begin the next.
    both = text.batch(0, count + 3)
    assert both[:count].tolist() == epoch.tolist()
    assert all(row in text.train.tolist() for row in both[count:].tolist())


@pytest.mark.parametrize(("trained", "count"), [(1, 1), (4, 1), (8, 2), (400, 3)])
def test_what_is_measured_costs_little_beside_what_is_trained_on(trained: int, count: int) -> None:
    sequences = torch.arange(12).reshape(6, 2)
    text = training_text.TrainingText(sequences[:3], sequences[3:], seed=0)
    assert text.measured(trained).tolist() == text.held_out[:count].tolist()


def test_a_text_in_pieces_has_the_same_tokens(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_text, "_PIECE_CHARACTERS", 50)
    text = "".join(f"line {number} of a text\n" for number in range(40))
    assert tokenizer.decode(encode_in_pieces(text, tokenizer)) == text


def test_too_short_a_text_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("Too short.", encoding="utf-8")
    with pytest.raises(BuildError, match=r"--text .*short\.txt: \d+ tokens; training needs two"):
        read_training_text(path, tokenizer, 512, seed=0)
