from hypothesis import given
from hypothesis import strategies as st

from pocketlm.runtime_py.speculation.prompt_lookup import LONGEST, SHORTEST, PromptLookup


def test_what_followed_the_same_two_tokens_is_drafted() -> None:
    assert PromptLookup().draft([1, 2, 3, 4, 5, 9, 2, 3], 2) == [4, 5]


def test_one_equal_token_is_not_enough() -> None:
    assert PromptLookup().draft([1, 2, 3, 9, 3], 4) == []


def test_a_longer_run_wins_over_a_later_shorter_one() -> None:
    text = [1, 2, 3, 7, 7, 9, 3, 4, 4, 1, 2, 3]
    assert PromptLookup().draft([*text[:6], 2, 3, 5, *text[6:]], 1) == [7]


def test_of_equal_runs_the_last_one_is_followed() -> None:
    assert PromptLookup().draft([1, 2, 7, 1, 2, 8, 1, 2], 1) == [8]


def test_a_text_that_repeats_itself_goes_on_beyond_its_end() -> None:
    assert PromptLookup().draft([5, 6, 5, 6, 5], 5) == [6, 5, 6, 5, 6]


def test_another_text_forgets_the_first() -> None:
    lookup = PromptLookup()
    assert lookup.draft([1, 2, 3, 1, 2], 1) == [3]
    assert lookup.draft([1, 2, 4, 9, 1, 2], 1) == [4]
    assert lookup.draft([8, 1, 2], 1) == []


def by_search(tokens: list[int], most: int) -> list[int]:
    """The same by looking at every place."""
    for length in range(min(LONGEST, len(tokens)), SHORTEST - 1, -1):
        for start in range(len(tokens) - length - 1, -1, -1):
            if tokens[start : start + length] == tokens[-length:]:
                found = tokens[start + length :]
                return [found[i % len(found)] for i in range(most)]
    return []


@given(
    tokens=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    cuts=st.lists(st.integers(1, 40), max_size=5),
    most=st.integers(1, 7),
)
def test_a_text_that_grows_is_read_on_not_again(
    tokens: list[int], cuts: list[int], most: int
) -> None:
    lookup = PromptLookup()
    for cut in sorted(cuts):
        lookup.draft(tokens[:cut], 1)
    assert lookup.draft(tokens, most) == by_search(tokens, most)
