from itertools import pairwise

from pocketlm.runtime_py.speculation.pace import Pace


def lengths(pace: Pace, calls: int, right: float) -> list[int]:
    """Follow a pace where so large a share of the guessed tokens is right."""
    found = []
    for _ in range(calls):
        drafted = pace.length(7)
        found.append(drafted)
        if drafted:
            pace.learn(drafted, int(drafted * right))
    return found


def test_drafts_that_are_right_become_as_long_as_they_may() -> None:
    assert lengths(Pace(0.0), 10, 1.0)[-1] == 7


def test_drafts_that_are_wrong_stop_and_are_tried_again_ever_less() -> None:
    found = lengths(Pace(0.0), 400, 0.0)
    tried = [i for i, drafted in enumerate(found) if drafted]
    pauses = [after - before for before, after in pairwise(tried)]
    # A few wrong ones in a row end in a pause; each pause is longer than the one before.
    longest = [pause for pause in pauses if pause > 1]
    assert longest == sorted(longest)
    assert len(longest) >= 4
    # What is lost by them: little of all that was checked in vain.
    assert sum(found) * 0.12 < 0.1 * len(found)


def test_a_draft_that_was_right_makes_the_next_pause_short_again() -> None:
    pace = Pace(0.0)
    lengths(pace, 200, 0.0)
    while not (drafted := pace.length(7)):
        pass
    pace.learn(drafted, drafted)
    found = lengths(pace, 60, 0.0)
    first = next(i for i, drafted in enumerate(found) if not drafted)
    assert any(found[first : first + 10])


def test_a_dear_drafter_makes_shorter_drafts() -> None:
    cheap, dear = (lengths(Pace(price), 3, 0.5) for price in (0.0, 0.5))
    assert max(dear) < max(cheap)


def test_none_may_be_guessed() -> None:
    pace = Pace(0.0)
    assert [pace.length(0) for _ in range(3)] == [0, 0, 0]
    # That is no pause.
    assert pace.length(7) > 0
