"""Feeds the tokens of golden cases to an artifact and measures the error of each answer."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pocketlm.runtime_py.engine import LoadedModel
from pocketlm.runtime_py.golden import Golden
from pocketlm.runtime_py.golden_cases import GoldenCase, PlacedCase
from pocketlm.runtime_py.session import Session
from pocketlm.runtime_py.verification_result import Replay

# A case with more tokens is fed token by token only if no other is shorter.
_LONGEST_BY_TOKEN = 512


@dataclass(frozen=True)
class ReplayStep:
    """What an artifact answered in one step.

    Attributes:
        greedy_id: largest logit among the ids that the tokenizer has.
        error_std: of the logits against the recorded digest, in units of its std; 0 where none was
            recorded.
    """

    greedy_id: int
    error_std: float


def replays_of(golden: Golden) -> list[tuple[GoldenCase, Replay]]:
    """Return the cases in the ways and the order in which they are replayed."""
    return list(_replays(golden))


def pieces_of(case: GoldenCase, replay: Replay) -> list[tuple[int, ...]]:
    """Return the calls that replay a case, after a reset: each step's answer follows the last of
    its prompt's, then one call a step.
    """
    by_token = replay == "token by token"
    prompt = [(token,) for token in case.prompt_ids] if by_token else [case.prompt_ids]
    return [*prompt, *((token,) for token in case.fed_ids)]


def replay_steps(
    session: Session, case: GoldenCase, replay: Replay, choices: int, *, exact: bool = False
) -> Iterator[ReplayStep]:
    """Feed the recorded tokens, whatever the artifact itself prefers.

    Args:
        choices: ids that a greedy choice is among.
        exact: measure against the rows without rounded activations.
    """
    session.reset()
    calls = pieces_of(case, replay)
    first = len(calls) - len(case.continuation_ids)
    for call, tokens in enumerate(calls):
        # What follows the prompt is decoded, as in generation.
        decoding = call > first
        logits = session.decode(tokens[0]) if decoding else session.prefill(list(tokens))
        if call >= first:
            digest = case.digest(call - first, exact=exact)
            error = digest.error(logits) if digest is not None else 0.0
            yield ReplayStep(int(np.argmax(logits[:choices])), error)


def placed_errors(model: LoadedModel, case: PlacedCase, *, exact: bool = False) -> list[float]:
    """Return the error after each call that has a digest, in order."""
    if case.has_gaps:
        model.clear()
    errors = []
    for call in case.calls:
        logits = model.run(call.ids, call.position)[-1]
        digest = case.digest(call, exact=exact)
        if digest is not None:
            errors.append(digest.error(logits))
    return errors


def _replays(golden: Golden) -> Iterator[tuple[GoldenCase, Replay]]:
    for case in golden.cases:
        yield case, "in chunks"
    shortest = min(map(_tokens, golden.cases), default=0)
    for case in golden.cases:
        if _tokens(case) <= max(shortest, _LONGEST_BY_TOKEN):
            yield case, "token by token"
    # Whatever the other cases left in the caches must not show.
    for case in golden.cases[:1]:
        yield case, "after reset"


def _tokens(case: GoldenCase) -> int:
    return len(case.prompt_ids) + len(case.fed_ids)
