"""Rows of the float model are the Decoder's, of every family; those of an artifact are its own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pocketlm.evaluation import logit_rows
from pocketlm.evaluation.logit_rows import CheckpointRows
from pocketlm.evaluation.passages import Passage
from pocketlm.evaluation.subject import artifact_subject, checkpoint_subject
from pocketlm.models.checkpoint import load_decoder, open_checkpoint
from pocketlm.runtime_py import open_session
from tests.artifacts import random_tokens
from tests.conftest import TINY_PUBLISHED

PASSAGE = Passage(tuple(random_tokens(60)), (1, 2, 30, 31, 59))


@pytest.mark.parametrize("family", TINY_PUBLISHED)
def test_a_checkpoints_rows_are_the_decoders(
    family: str, tiny_checkpoint: Callable[[str], Path]
) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint(family))
    reported: list[tuple[int, int]] = []
    rows = CheckpointRows(checkpoint, lambda *done: reported.append(done))
    found = torch.cat([*rows.rows(PASSAGE)])
    with torch.no_grad():
        expected = load_decoder(checkpoint)(torch.tensor([PASSAGE.ids]))[0]
    expected = expected[[place - 1 for place in PASSAGE.places]]
    # float32 in another order.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert reported[-1] == (3, 3)


def test_remembered_hidden_states_give_the_same_rows_without_the_layers(
    tiny_checkpoint: Callable[[str], Path],
) -> None:
    subject = checkpoint_subject(str(tiny_checkpoint("gemma3_text")), remembers=True)
    reported: list[tuple[int, int]] = []

    def found() -> torch.Tensor:
        with subject.load(lambda *done: reported.append(done)) as rows:
            return torch.cat([*rows.rows(PASSAGE)])

    first = found()
    assert reported[-1] == (3, 3)
    reported.clear()
    assert torch.equal(found(), first)
    assert reported == []


@pytest.mark.parametrize("backend", ["onnx", "executorch"])
def test_an_artifacts_rows_are_those_of_its_session(
    pico_bundle: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = artifact_subject(str(pico_bundle), backend, 1)
    monkeypatch.setattr(logit_rows, "_BLOCK_ELEMENTS", 2 * subject.vocab_size)
    with subject.load(lambda *done: None) as rows:
        found = [*rows.rows(PASSAGE)]
        # From empty caches each time.
        again = torch.cat([*rows.rows(PASSAGE)])
    with open_session(pico_bundle, backend, 1) as session:
        ends = zip((0, *PASSAGE.places), PASSAGE.places, strict=False)
        expected = np.stack([session.prefill(PASSAGE.ids[start:stop]) for start, stop in ends])
    assert [len(block) for block in found] == [2, 2, 1]
    assert torch.equal(torch.cat(found), again)
    assert np.array_equal(again.numpy(), expected[:, : subject.vocab_size])
