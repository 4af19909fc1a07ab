"""What one rounded weight costs, against a whole model that holds it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pocketlm.edge_build.calibration.measured import NO_INPUT_STATISTICS
from pocketlm.edge_build.mixed_precision.kept_sensitivities import KeptSensitivities
from pocketlm.edge_build.mixed_precision.sensitivity import measure_sensitivities
from pocketlm.edge_build.quantization.methods import round_to_nearest
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.models.checkpoint import Checkpoint, load_decoder, open_checkpoint
from tests.conftest import TINY_PUBLISHED

SEQUENCES = ((2, *range(40, 60)), (2, *range(300, 311)))
FOUR, EIGHT = QuantScheme(4, 32), QuantScheme(8)
NOTHING_KEPT = KeptSensitivities(Path("/dev/null/nowhere"), {})


@pytest.fixture(autouse=True)
def nothing_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeptSensitivities, "read", lambda self, name: None)
    monkeypatch.setattr(KeptSensitivities, "write", lambda self, name, found: None)


def predictions(checkpoint: Checkpoint, rounded: str | None) -> torch.Tensor:
    decoder = load_decoder(checkpoint)
    if rounded is not None:
        weight = decoder.get_submodule(rounded).get_parameter("weight")
        codes, scales = round_to_nearest.prepare(FOUR, NO_INPUT_STATISTICS)(weight.detach())
        grouped = codes.float().reshape(*scales.shape, -1) * scales.unsqueeze(-1)
        weight.data.copy_(grouped.reshape(weight.shape))
    with torch.no_grad():
        # The second sequence is there for statistics alone.
        logits = decoder(torch.tensor([SEQUENCES[0]]))[0]
    return torch.log_softmax(logits, -1)


@pytest.mark.parametrize("family", sorted(TINY_PUBLISHED))
def test_each_weight_alone_costs_what_the_whole_model_loses_by_it(
    family: str, tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint(family))
    matrices = [name for name, shape in checkpoint.shapes.items() if len(shape) == 2]
    told: list[tuple[int, int, str]] = []
    found = measure_sensitivities(
        checkpoint,
        SEQUENCES,
        dict.fromkeys(matrices, (FOUR, EIGHT)),
        tmp_path,
        NOTHING_KEPT,
        lambda *step: told.append(step),
    )
    assert list(found) == matrices and told[-1] == (len(matrices), len(matrices), "weights")
    expected = predictions(checkpoint, None)
    chosen = ["embed_tokens", "layers.0.attention.k_proj", matrices[-1], "layers.1.mlp.up_proj"]
    for name in chosen:
        ours = predictions(checkpoint, name)
        kl = float((expected.exp() * (expected - ours)).sum(-1).mean())
        assert kl > 0
        # Logarithms in float32, whose differences are small.
        assert found[name].kl_nats == pytest.approx(kl, rel=0.02, abs=1e-7)
        # An eighth of the bits' step: 16 times finer, and one scale for a row.
        assert 0 < found[name].predicted(EIGHT) < 0.1 * found[name].predicted(FOUR)
        assert found[name].predicted(FOUR) == found[name].kl_nats


def test_a_weight_of_zeros_costs_nothing_in_any_scheme(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint("qwen3"))
    read = Checkpoint.read_rows
    name = "layers.1.mlp.up_proj"

    def zeroed(self: Checkpoint, one: str, start: int, stop: int) -> torch.Tensor:
        rows = read(self, one, start, stop)
        return rows.zero_() if one == name else rows

    monkeypatch.setattr(Checkpoint, "read_rows", zeroed)
    found = measure_sensitivities(
        checkpoint,
        SEQUENCES,
        {name: (FOUR, EIGHT)},
        tmp_path,
        NOTHING_KEPT,
        lambda *step: None,
    )
    assert found[name].kl_nats == pytest.approx(0, abs=1e-7)
    assert found[name].predicted(EIGHT) == 0
