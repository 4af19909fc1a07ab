"""Which of the measured choices a build takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketlm.edge_build.kv_cache import plan_caches
from pocketlm.edge_build.kv_rule import choose_kv, kv_candidates, largest_kl
from pocketlm.runtime_py.kv_choice import KV_NAMES, KvMeasured
from tests.edge_build.test_kv_cache import config_with

NATS = st.floats(0, 10)


@st.composite
def measurements(draw: st.DrawFn) -> list[KvMeasured]:
    """Draw what may be measured: float32 caches are the largest, or as large as others."""
    whole = KvMeasured("float32", draw(NATS), 1000)
    others = draw(st.lists(st.sampled_from(KV_NAMES[1:]), unique=True))
    sizes = st.integers(1, 1000)
    found = [whole, *(KvMeasured(name, draw(NATS), draw(sizes)) for name in others)]
    return draw(st.permutations(found))


@given(measurements())
def test_what_is_taken_is_good_and_nothing_smaller_is(tried: list[KvMeasured]) -> None:
    by_name = {one.kv: one for one in tried}
    taken = by_name[choose_kv(tried)]
    assert taken.kl_nats <= largest_kl(tried)
    for one in tried:
        assert one.kl_nats > largest_kl(tried) or one.size_bytes >= taken.size_bytes


@given(measurements(), st.floats(0, 1))
def test_a_smaller_divergence_never_makes_a_choice_lose(
    tried: list[KvMeasured], share: float
) -> None:
    name = choose_kv(tried)
    better = [
        KvMeasured(one.kv, one.kl_nats * share, one.size_bytes)
        if one.kv == name and one.kv != "float32"
        else one
        for one in tried
    ]
    assert choose_kv(better) == name


def tried(whole: float, **others: tuple[float, int]) -> list[KvMeasured]:
    found = [KvMeasured("float32", whole, 1000)]
    names = {"local": "int8-local", "global_": "int8-global", "both": "int8"}
    return [*found, *(KvMeasured(names[k], *v) for k, v in others.items())]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("whole", "added", "expected"),
    [
        # A hundredth of a large divergence.
        (0.2, 0.0019, "int8"),
        (0.2, 0.0021, "float32"),
        # Half a thousandth of a nat, where that is more: also above float weights.
        (0.01, 0.00049, "int8"),
        (0.01, 0.00051, "float32"),
        (0.0, 0.00049, "int8"),
        (0.0, 0.00051, "float32"),
        # Rounding may happen to bring a quantized model nearer.
        (0.2, -0.01, "int8"),
    ],
)
def test_the_bound_is_a_share_or_a_constant(whole: float, added: float, expected: str) -> None:
    assert choose_kv(tried(whole, both=(whole + added, 300))) == expected


def test_one_kind_is_taken_where_both_lose_too_much() -> None:
    found = tried(0.1, local=(0.1005, 700), global_=(0.1002, 600), both=(0.12, 250))
    assert choose_kv(found) == "int8-global"
    found = tried(0.1, local=(0.1005, 700), global_=(0.13, 600), both=(0.12, 250))
    assert choose_kv(found) == "int8-local"


def test_of_equal_bytes_the_smaller_divergence_is_taken() -> None:
    assert choose_kv(tried(0.1, local=(0.1005, 600), global_=(0.1001, 600))) == "int8-global"
    assert choose_kv(tried(0.1, both=(0.1, 1000))) == "float32"


def test_both_kinds_of_layers_give_four_choices_and_one_kind_two() -> None:
    able = ("float32", "int8")
    for windows, names in (
        ((8, None), ["float32", "int8-local", "int8-global", "int8"]),
        ((None, None), ["float32", "int8"]),
        ((8, 8), ["float32", "int8"]),
    ):
        plan = plan_caches(config_with(windows), context_length=40, chunk=5)
        assert [choice.name for choice in kv_candidates(plan, able)] == names
        assert [choice.name for choice in kv_candidates(plan, ("float32",))] == ["float32"]
        alike = [choice.name for choice in kv_candidates(plan, able, mixes=False)]
        assert alike == ["float32", "int8"]
