"""Folds leave a model what it is, and are searched where rounding costs outputs least."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketlm.edge_build.calibration.running import measure
from pocketlm.edge_build.quantization import fold_search, folds, recipes
from pocketlm.edge_build.quantization.fold_search import FoldSearch, find_folds
from pocketlm.edge_build.quantization.folds import (
    FoldedCheckpoint,
    FoldGroup,
    Folds,
    fold_groups,
    fold_notes,
    possible_groups,
)
from pocketlm.edge_build.quantization.methods import round_to_nearest
from pocketlm.edge_build.quantization.recipe import QuantRecipe, QuantRule, QuantScheme
from pocketlm.edge_build.quantization.rules import choose_rules
from pocketlm.models.checkpoint import Checkpoint, load_decoder, open_checkpoint
from pocketlm.models.config import ModelConfig
from pocketlm.models.stored_weight import StoredWeight
from pocketlm.models.weight_shapes import weight_shapes
from tests.conftest import TINY_PUBLISHED, WINDOW
from tests.small_layers import SMALL_LAYER

LOCAL = replace(SMALL_LAYER, window=WINDOW)
GLOBAL = replace(SMALL_LAYER, num_key_value_heads=1, head_dim=32, rope_theta=1e6, rotary_dim=16)
# Layers of many shapes; two read the keys and values of layer 0.
MIXED = ModelConfig(
    model_type="mixed",
    vocab_size=512,
    hidden_size=64,
    layers=(LOCAL, GLOBAL, replace(LOCAL, kv_from=0, num_attention_heads=2), GLOBAL),
    rms_norm_eps=1e-6,
    max_position_embeddings=64,
    attention_scale=0.25,
    activation="silu",
    query_key_norm=True,
)
TEXT = ((2, *range(40, 70)), (2, *range(300, 320)))
SCHEME = QuantScheme(4, 32, "awq")
AWQ = QuantRecipe("awq", (QuantRule("*", SCHEME, "a test"),))
SOURCES = [*sorted(TINY_PUBLISHED), "mixed"]


@dataclass(frozen=True)
class InMemory:
    """What a checkpoint reads of a StoredWeight."""

    weight: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.weight.shape)

    def rows(self, start: int, stop: int) -> torch.Tensor:
        return self.weight[start:stop].clone()


def mixed_checkpoint() -> Checkpoint:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: InMemory(torch.randn(*shape, generator=generator) * (shape[-1] ** -0.5))
        for name, shape in weight_shapes(MIXED).items()
    }
    stored = cast(Mapping[str, StoredWeight], tensors)
    return Checkpoint(Path("mixed"), b"{}", MIXED, (), stored)


@pytest.fixture(scope="session")
def opened(tiny_checkpoint: Callable[[str], Path]) -> Callable[[str], Checkpoint]:
    def get(source: str) -> Checkpoint:
        return mixed_checkpoint() if source == "mixed" else open_checkpoint(tiny_checkpoint(source))

    return get


def random_folds(
    checkpoint: Checkpoint, groups: tuple[FoldGroup, ...], seed: int, spread: float = 1.0
) -> Folds:
    generator = np.random.default_rng(seed)
    return Folds(
        groups,
        {
            group.source: np.exp(
                spread * generator.standard_normal(checkpoint.shape(group.source)[0])
            ).astype(np.float32)
            for group in groups
        },
    )


@torch.no_grad()
def logits(checkpoint: Checkpoint) -> torch.Tensor:
    return load_decoder(checkpoint)(torch.tensor([TEXT[0]]))[0]


def deviation(checkpoint: Checkpoint, folded: Folds) -> float:
    expected = logits(checkpoint)
    found = logits(FoldedCheckpoint.of(checkpoint, folded))
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("source", SOURCES)
@given(seed=st.integers(0, 1000))
@settings(max_examples=5)
def test_a_folded_model_is_the_model(
    source: str, seed: int, opened: Callable[[str], Checkpoint]
) -> None:
    checkpoint = opened(source)
    groups = possible_groups(checkpoint.config)
    # Every product is rounded to float32 at another size; 2e-6 were seen.
    assert deviation(checkpoint, random_folds(checkpoint, groups, seed)) < 2e-5


@pytest.mark.parametrize("source", SOURCES)
def test_every_matrix_of_a_layer_is_folded_on_its_inputs(
    source: str, opened: Callable[[str], Checkpoint]
) -> None:
    checkpoint = opened(source)
    groups = possible_groups(checkpoint.config)
    matrices = {name for name in checkpoint.names() if name.endswith("_proj")}
    shared = {"layers.0.attention.o_proj", "layers.2.attention.o_proj"}
    expected = matrices - shared if source == "mixed" else matrices
    assert {name for group in groups for name in group.readers} == expected
    assert all({*group.weights} <= matrices for group in groups)


@pytest.mark.parametrize("source", SOURCES)
def test_each_group_alone_is_read_by_nothing_else(
    source: str, opened: Callable[[str], Checkpoint]
) -> None:
    checkpoint = opened(source)
    for group in possible_groups(checkpoint.config):
        assert deviation(checkpoint, random_folds(checkpoint, (group,), seed=1)) < 2e-5


WRONG = [
    # Layer 2 reads the values of layer 0.
    FoldGroup("layers.0.attention.v_proj", ("layers.0.attention.o_proj",), 2, 16),
    FoldGroup("layers.1.mlp.gate_proj", ("layers.1.mlp.down_proj",)),
    FoldGroup("layers.1.attention_norm", ("layers.1.attention.q_proj",)),
    # Heads of values that are not those of the columns.
    FoldGroup("layers.1.attention.v_proj", ("layers.1.attention.o_proj",), 4, 1),
]


@pytest.mark.parametrize("group", WRONG, ids=lambda group: group.source)
def test_a_group_that_is_not_exact_is_seen(group: FoldGroup) -> None:
    checkpoint = mixed_checkpoint()
    assert group not in possible_groups(MIXED)
    assert deviation(checkpoint, random_folds(checkpoint, (group,), seed=1)) > 1e-3


def test_layers_of_a_class_of_their_own_are_not_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folds.families, "own_layer", lambda model_type: object())
    assert possible_groups(MIXED) == ()


def test_blocks_of_rows_are_those_of_the_whole(opened: Callable[[str], Checkpoint]) -> None:
    checkpoint = opened("gemma3_text")
    groups = possible_groups(checkpoint.config)
    view = FoldedCheckpoint.of(checkpoint, random_folds(checkpoint, groups, 3))
    for name in ("layers.1.mlp.up_proj", "layers.1.attention.v_proj", "layers.1.mlp_norm"):
        parts = [view.read_rows(name, 0, 5), view.read_rows(name, 5, view.shape(name)[0])]
        assert torch.equal(torch.cat(parts), view.read(name))


def test_bounds_of_values_are_those_of_the_folded_model(
    opened: Callable[[str], Checkpoint], tmp_path: Path
) -> None:
    checkpoint = opened("gemma3_text")
    folded = random_folds(checkpoint, possible_groups(checkpoint.config), 4)
    bounds = []
    for name, source in (("own", checkpoint), ("folded", FoldedCheckpoint.of(checkpoint, folded))):
        (tmp_path / name).mkdir()
        bounds.append(measure(source, TEXT, ("kv_bounds",), tmp_path / name).kv_bounds())
    derived = folded.of_kv_bounds(bounds[0], checkpoint.config)
    for kind in ("keys", "values"):
        pairs = zip(getattr(derived, kind), getattr(bounds[1], kind), strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(one, other, rtol=1e-4)
    assert not np.allclose(derived.values[0], bounds[0].values[0], rtol=0.1)


def rules_with(checkpoint: Checkpoint, **methods: str) -> dict[str, QuantRule]:
    """Return rules of AWQ, but for weights that end in a name."""
    rules = choose_rules(checkpoint.shapes, AWQ)
    for ending, method in methods.items():
        for name in [name for name in rules if name.endswith(ending)]:
            scheme = None if method == "none" else replace(SCHEME, method=method)
            rules[name] = QuantRule(name, scheme, "a test")
    return rules


@pytest.mark.parametrize("other", ["round_to_nearest", "gptq", "checkpoint_grid", "none"])
def test_a_group_with_a_weight_of_another_method_is_left_out(
    other: str, opened: Callable[[str], Checkpoint]
) -> None:
    checkpoint = opened("gemma3_text")
    config, rules = checkpoint.config, rules_with(checkpoint, up_proj=other)
    sources = {group.source for group in fold_groups(config, rules)}
    kept = {"layers.0.attention_norm", "layers.0.attention.v_proj"}
    assert {source for source in sources if source.startswith("layers.0.")} == kept
    # gate_proj and down_proj of three layers.
    (note,) = fold_notes(config, rules)
    assert note == (
        "6 weights, layers.0.mlp.gate_proj the first, keep the scales of their input channels: "
        "weights that share or make their inputs have a method that does not fold."
    )


def test_methods_that_fold_may_be_mixed(opened: Callable[[str], Checkpoint]) -> None:
    checkpoint = opened("gemma3_text")
    config, rules = checkpoint.config, rules_with(checkpoint, up_proj="awq+gptq")
    assert fold_groups(config, rules) == possible_groups(config)
    assert fold_notes(config, rules) == ()
    nothing = choose_rules(checkpoint.shapes, recipes.load("int4-g32"))
    assert fold_groups(config, nothing) == () and fold_notes(config, nothing) == ()


def with_outliers(checkpoint: Checkpoint) -> Checkpoint:
    """Return the same model with few large channels, as larger models have them."""
    generator = np.random.default_rng(9)
    groups = possible_groups(checkpoint.config)
    scales = {}
    for group in groups:
        channels = np.ones(checkpoint.shape(group.source)[0], np.float32)
        channels[generator.choice(len(channels), 3, replace=False)] = 0.05
        scales[group.source] = channels
    return FoldedCheckpoint.of(checkpoint, Folds(groups, scales))


def search_of(checkpoint: Checkpoint) -> FoldSearch:
    rules = choose_rules(checkpoint.shapes, AWQ)
    schemes = {name: rule.scheme for name, rule in rules.items()}
    return FoldSearch(fold_groups(checkpoint.config, rules), schemes, TEXT, "none")


def inputs_of(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    seen: dict[str, list[torch.Tensor]] = {}
    decoder = load_decoder(checkpoint)
    for name, module in decoder.named_modules():
        if name.endswith("_proj"):
            module.register_forward_pre_hook(
                lambda _, args, name=name: seen.setdefault(name, []).append(args[0][0])
            )
    with torch.no_grad():
        for tokens in TEXT:
            decoder(torch.tensor([tokens]))
    return {name: torch.cat(parts) for name, parts in seen.items()}


def output_error(weight: torch.Tensor, x: torch.Tensor, columns: torch.Tensor) -> float:
    codes, scales = round_to_nearest.prepare(SCHEME, cast(Any, None))(weight * columns)
    rounded = (codes.reshape(*scales.shape, -1) * scales.unsqueeze(-1)).reshape(weight.shape)
    return float((x @ weight.T - (x / columns) @ rounded.T).square().sum())


@pytest.mark.parametrize("source", ["gemma3_text", "mixed"])
def test_outputs_lose_less_with_the_scales_that_are_found(
    source: str, opened: Callable[[str], Checkpoint], tmp_path: Path
) -> None:
    checkpoint = with_outliers(opened(source))
    found = find_folds(checkpoint, search_of(checkpoint), tmp_path)
    inputs = inputs_of(checkpoint)
    gains = []
    for group in found.groups:
        before = after = 0.0
        for name in group.readers:
            weight, columns = checkpoint.read(name), found.columns(name)
            ones = torch.ones(weight.shape[1])
            before += output_error(weight, inputs[name], ones)
            after += output_error(weight, inputs[name], ones if columns is None else columns)
        # The text is short: every one of its tokens was searched on.
        assert after <= before * (1 + 1e-5)
        gains.append(after / before)
    assert np.mean(gains) < 0.9


def test_scales_that_win_nothing_are_left_out(
    opened: Callable[[str], Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = opened("qwen3")
    monkeypatch.setattr(fold_search, "EXPONENTS", (0.0,))
    found = find_folds(checkpoint, search_of(checkpoint), tmp_path)
    assert found.scales == {} and len(found.groups) == 12
    assert (
        FoldedCheckpoint.of(checkpoint, found)
        .read("layers.0.mlp.up_proj")
        .equal(checkpoint.read("layers.0.mlp.up_proj"))
    )


class Counting:
    """Counts searches and stops at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop: int = 10**6) -> None:
        self.done, self.stop = 0, stop
        search = fold_search._search

        def counted(*arguments: Any) -> Any:
            if self.done == self.stop:
                raise KeyboardInterrupt
            self.done += 1
            return search(*arguments)

        monkeypatch.setattr(fold_search, "_search", counted)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_search_goes_on_where_another_was_interrupted(
    opened: Callable[[str], Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, whole, parts = opened("gemma3_text"), tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    find_folds(checkpoint, search_of(checkpoint), whole)
    counting = Counting(monkeypatch, stop=5)
    with pytest.raises(KeyboardInterrupt):
        find_folds(checkpoint, search_of(checkpoint), parts)
    counting.stop = 10**6
    # A file that was cut off, and one whose numbers are none.
    (parts / "layers.0.mlp.up_proj.npy").write_bytes(b"\x93NUMPY")
    np.save(parts / "layers.0.mlp_norm.npy", np.full(64, np.nan, np.float32))
    steps: list[tuple[int, int, str]] = []
    find_folds(checkpoint, search_of(checkpoint), parts, lambda *step: steps.append(step))
    assert counting.done == 12 + 2
    assert files_of(parts) == files_of(whole)
    assert steps[0] == (0, 12, "layers.0.attention.q_proj") and steps[-1] == (12, 12, "weights")
