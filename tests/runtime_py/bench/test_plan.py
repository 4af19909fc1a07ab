import pytest

from pocketlm.runtime_py.bench.plan import BenchTest, plan_tests
from pocketlm.runtime_py.errors import RunError


def test_every_length_is_measured_at_every_depth() -> None:
    found = plan_tests((16, 32), (8,), (0, 20), 64)
    assert [test.name for test in found] == [
        "pp16",
        "pp32",
        "tg8",
        "pp16 @ d20",
        "pp32 @ d20",
        "tg8 @ d20",
    ]


def test_a_length_of_zero_is_no_test() -> None:
    assert plan_tests((0,), (8,), (0,), 64) == (BenchTest("tg", 8, 0),)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0,), (0,), (0,)), "nothing to measure: -p and -n are 0; give -p 512, or leave them out"),
        (
            ((16,), (0,), (0, 49)),
            "pp16 @ d49: needs 65 positions, the context has 64; give a smaller -p, -n or -d, or "
            "build with a larger --context",
        ),
        # An answer begins after one token at least.
        (((0,), (64,), (0,)), "tg64: needs 65 positions, the context has 64"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: tuple[tuple[int, ...], ...], message: str
) -> None:
    with pytest.raises(RunError) as caught:
        plan_tests(*arguments, 64)
    assert str(caught.value).startswith(message)
