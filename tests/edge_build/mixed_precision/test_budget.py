"""Bytes are spent where the KL divergence falls most."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketlm.edge_build.mixed_precision.budget import Choice, smallest_bytes, spend
from pocketlm.edge_build.quantization.recipe import QuantScheme

SCHEMES = [QuantScheme(4, 128), QuantScheme(4, 64), QuantScheme(4, 32), QuantScheme(8)]


def choices(sizes: list[int], losses: list[float]) -> list[Choice]:
    return [Choice(s, b, kl) for s, b, kl in zip(SCHEMES, sizes, losses, strict=True)]


models = st.dictionaries(
    st.sampled_from("abcd"),
    st.builds(
        choices,
        st.lists(st.integers(1, 60), min_size=4, max_size=4, unique=True),
        st.lists(st.floats(0, 1), min_size=4, max_size=4),
    ),
    min_size=1,
)


@given(models, st.integers(0, 240))
@settings(max_examples=150)
def test_what_is_chosen_fits_and_nearly_nothing_does_better(
    model: dict[str, list[Choice]], more: int
) -> None:
    budget = smallest_bytes(model) + more
    chosen = spend(model, budget)
    assert sorted(chosen) == sorted(model)
    assert all(choice in model[name] for name, choice in chosen.items())
    assert sum(choice.size_bytes for choice in chosen.values()) <= budget
    combinations = product(*model.values())
    fitting = [c for c in combinations if sum(one.size_bytes for one in c) <= budget]
    best = min(sum(one.kl_nats for one in c) for c in fitting)
    ours = sum(choice.kl_nats for choice in chosen.values())
    # The greedy rule loses one step at most, and no step wins more than the largest loss.
    largest = max(one.kl_nats for offered in model.values() for one in offered)
    assert ours <= best + largest + 1e-12


def test_the_step_that_wins_most_a_byte_comes_first() -> None:
    model = {
        "a": choices([10, 20, 30, 60], [0.9, 0.85, 0.81, 0.8]),
        "b": choices([10, 20, 30, 60], [0.9, 0.5, 0.3, 0.1]),
    }
    assert {n: c.size_bytes for n, c in spend(model, 30).items()} == {"a": 10, "b": 20}
    assert {n: c.size_bytes for n, c in spend(model, 45).items()} == {"a": 10, "b": 30}
    assert {n: c.size_bytes for n, c in spend(model, 120).items()} == {"a": 60, "b": 60}


@pytest.mark.parametrize("more", [0, 9, 10_000])
def test_a_choice_that_costs_bytes_and_wins_nothing_is_never_taken(more: int) -> None:
    model = {"a": choices([10, 20, 30, 40], [0.5, 0.6, 0.5, 0.5])}
    assert spend(model, 10 + more)["a"].size_bytes == 10


def test_one_large_weight_is_not_left_behind_by_many_small_steps() -> None:
    small = {name: choices([10, 11, 12, 14], [0.3, 0.2, 0.15, 0.1]) for name in "abc"}
    # A small step wins 0.1 a byte at first, the table's 0.09; but the ten bytes of it win most.
    table = [Choice(SCHEMES[0], 100, 1.0), Choice(SCHEMES[3], 110, 0.1)]
    chosen = spend({**small, "table": table}, 140)
    assert chosen["table"].size_bytes == 110
    chosen = spend({**small, "table": table}, 139)
    assert chosen["table"].size_bytes == 100
    assert sum(choice.size_bytes for choice in chosen.values()) <= 139
