"""A weight that is trained on its grid."""

import pytest
import torch

from pocketlm.edge_build.calibration.measured import NO_INPUT_STATISTICS
from pocketlm.edge_build.quantization.methods import round_to_nearest
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.training.grid_weight import GridWeight

SCHEMES = (QuantScheme(4, 32), QuantScheme(4), QuantScheme(8))


def grid_weight(scheme: QuantScheme, seed: int = 0) -> tuple[GridWeight, torch.Tensor]:
    weight = torch.randn(6, 64, generator=torch.Generator().manual_seed(seed))
    codes, scales = round_to_nearest.prepare(scheme, NO_INPUT_STATISTICS)(weight)
    return GridWeight(scheme, codes, scales, weight), weight


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_it_begins_with_the_codes_and_scales_it_is_given(scheme: QuantScheme) -> None:
    weight = torch.randn(6, 64, generator=torch.Generator().manual_seed(1))
    codes, scales = round_to_nearest.prepare(scheme, NO_INPUT_STATISTICS)(weight)
    # As GPTQ does: codes that are not the nearest.
    codes = (codes + torch.randint(-1, 2, codes.shape)).clamp(*scheme.code_range).to(torch.int8)
    grid = GridWeight(scheme, codes, scales, weight)
    found_codes, found_scales = grid.on_grid(grid.position, grid.log_scale)
    assert torch.equal(found_codes, codes)
    assert torch.equal(found_scales, scales)
    grouped = codes.float().reshape(*scales.shape, -1) * scales.unsqueeze(-1)
    assert torch.equal(grid().detach(), grouped.reshape(weight.shape))


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_gradients_pass_as_if_nothing_were_rounded(scheme: QuantScheme) -> None:
    grid, weight = grid_weight(scheme)
    wanted = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
    (grid() * wanted).sum().backward()
    codes, scales = grid.on_grid(grid.position.detach(), grid.log_scale.detach())
    steps = scales.repeat_interleave(weight.shape[1] // scales.shape[1], dim=1)
    assert grid.position.grad is not None and grid.log_scale.grad is not None
    torch.testing.assert_close(grid.position.grad, wanted * steps)
    per_group = (wanted * codes * steps).reshape(*scales.shape, -1).sum(-1)
    torch.testing.assert_close(grid.log_scale.grad, per_group)


def test_a_position_that_leaves_its_cell_changes_the_code_by_one() -> None:
    grid, _ = grid_weight(SCHEMES[0])
    before, _ = grid.on_grid(grid.position, grid.log_scale)
    with torch.no_grad():
        grid.position[0, 0] = float(before[0, 0]) - 0.51
    after, _ = grid.on_grid(grid.position, grid.log_scale)
    changed = (after != before).nonzero().tolist()
    assert changed == [[0, 0]]
    assert after[0, 0] == before[0, 0] - 1
