"""A model's own text, against the model that reads all of it at once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pocketlm.edge_build.calibration.generation import GENERATED_SEQUENCES, generate
from pocketlm.edge_build.calibration.measured import Sequences
from pocketlm.edge_build.calibration.running import calibrate
from pocketlm.edge_build.preparation import prepare
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.models.checkpoint import load_decoder, open_checkpoint
from tests.conftest import TINY_PUBLISHED

LENGTH = 24


@pytest.mark.parametrize("family", sorted(TINY_PUBLISHED))
def test_each_token_is_drawn_from_what_the_model_says_after_those_before(
    family: str, tiny_checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint(family))
    drawn_from: list[torch.Tensor] = []
    draw = torch.multinomial

    def recorded(probabilities: torch.Tensor, count: int, **options: object) -> torch.Tensor:
        drawn_from.append(probabilities)
        return draw(probabilities, count, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(torch, "multinomial", recorded)
    reported: list[tuple[int, int]] = []
    size = checkpoint.config.vocab_size - 7
    found = generate(checkpoint, 2, size, LENGTH, lambda *done: reported.append(done))
    assert len(found) == GENERATED_SEQUENCES and {len(tokens) for tokens in found} == {LENGTH}
    assert {tokens[0] for tokens in found} == {2} and max(map(max, found)) < size
    assert len(set(found)) == GENERATED_SEQUENCES
    assert reported == [(done, LENGTH) for done in range(2, LENGTH + 1)]
    with torch.no_grad():
        logits = load_decoder(checkpoint)(torch.tensor(found[:3]))[:, :-1, :size]
    expected = torch.softmax(logits, -1)
    probabilities = torch.stack(drawn_from, dim=1)[:3]
    # Products in another order.
    torch.testing.assert_close(probabilities, expected, rtol=1e-3, atol=1e-6)


def test_a_model_is_calibrated_on_its_own_text_where_none_is_given(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    source = tiny_checkpoint("gemma3_text")
    spec = BuildSpec(source, tmp_path / "out", method="gptq", context_length=16)
    prepared = prepare(spec)
    assert prepared.is_generating and prepared.stage_names[0] == "calibrate"
    steps: list[str] = []

    def calibrated(name: str) -> Sequences:
        (tmp_path / name).mkdir()
        store = calibrate(prepared, tmp_path / name, lambda *step: steps.append(step[3]))
        return store.sequences

    found = calibrated("first")
    assert steps[0] == "tokens of 64 own texts" and steps[-1] == "1024 tokens"
    assert {len(tokens) for tokens in found} == {16}
    assert calibrated("second") == found
