"""The off-grid model and the figures of benchmarks/quality.py."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.conversion.off_grid import write_off_grid
from benchmarks.quality import Run, compare
from pocketlm.evaluation.passages import Passage
from pocketlm.models.checkpoint import load_decoder, open_checkpoint


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {n: w for path in folder.glob("*.safetensors") for n, w in load_file(path).items()}


def test_matrices_move_by_half_a_step_of_their_block_at_most(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    source = tiny_checkpoint("gemma3_text")
    before, after = weights(source), weights(write_off_grid(source, tmp_path / "moved"))
    assert open_checkpoint(tmp_path / "moved").config == open_checkpoint(source).config
    for name, weight in before.items():
        moved = after[name].float()
        if weight.dim() != 2:
            assert torch.equal(moved, weight.float())
            continue
        blocks = weight.float().reshape(len(weight), -1, 32)
        largest = blocks.abs().amax(-1, keepdim=True)
        error = (moved.reshape(blocks.shape) - blocks).abs()
        # And what bfloat16 rounds away.
        assert bool((error <= largest / 16 + 2**-8 * (blocks.abs() + largest / 16)).all())
        # A third of the noise's square is its mean square: (1/16)² / 3.
        spread = (error / largest).square().mean().sqrt()
        assert float(spread) == pytest.approx(1 / 16 / 3**0.5, rel=0.1)
    again = weights(write_off_grid(source, tmp_path / "again"))
    assert all(torch.equal(again[name], weight) for name, weight in after.items())


def test_a_system_is_compared_row_by_row_with_the_float_model(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    source = tiny_checkpoint("qwen3")
    passages = [Passage((2, 5, 7, 9, 11), (1, 2, 3, 4)), Passage((2, 40, 41), (1, 2))]
    run = Run(source, tmp_path, passages, tmp_path / "none.txt", 1, 64, (), ())
    with torch.no_grad():
        decoder = load_decoder(open_checkpoint(source))
        exact = torch.cat([decoder(torch.tensor([p.ids]))[0, :-1] for p in passages])
    same = compare(run, iter(exact.split(4)), 10)
    assert same["size_bytes"] == 10 and same["top1_agreement"] == 1
    # float32 in another order.
    assert same["kl_nats"]["mean"] < 1e-8
    other = compare(run, iter([exact + torch.linspace(0, 3, exact.shape[1])]), 10)
    assert other["kl_nats"]["mean"] > 0.05
    with pytest.raises(AssertionError, match="4 rows of 6"):
        compare(run, iter([exact[:4]]), 10)
