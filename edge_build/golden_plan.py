"""What golden answers are recorded on: texts to continue, and tokens at chosen positions.

All of it follows from sizes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pocketlm.edge_build.golden_texts import SHORT_PROMPTS
from pocketlm.edge_build.preparation import Preparation
from pocketlm.edge_build.prompts import long_ids
from pocketlm.edge_build.reference import LARGE_PARAMETERS
from pocketlm.runtime_py.golden import ChatCase
from pocketlm.runtime_py.golden_cases import PlacedCall
from pocketlm.runtime_py.kv_choice import FLOAT32
from pocketlm.runtime_py.tokenizer import Tokenizer

_LARGE_TOKENS = 8
_SMALL_TOKENS = 64
# Rows of the long text of a large model: with those of the short one, 256.
_LARGE_TEXT_ROWS = 248
_LONGEST_PROMPT = 2048
# About 70 s on two cores of a server. Where a text past the end of every ring would take more, it
# is as long as its rows, and placed tokens cross the ring: 14e12 took 170 s for Gemma 3 4B.
_MOST_MULTIPLY_ADDS = 6e12
# Tokens of the eager pass that walks over the embedding table.
_TABLE_TOKENS = 1024
# Tokens at the end of a context that no text reaches, of which the last come one by one.
_END_TOKENS = 48
_SINGLE_TOKENS = 8
# Tokens placed at the start, at the edge of a window and at the wrap of a ring.
_EDGE_TOKENS = 16
# Short texts of a small model, and about the tokens of their prompts.
_SHORT_TEXTS = 3
_SHORT_PROMPT = 16


@dataclass(frozen=True)
class GoldenText:
    """A prompt and how many rows follow from it.

    Attributes:
        is_text: its last `rows` - 1 tokens are fed one by one; otherwise each choice is fed back.
    """

    name: str
    ids: tuple[int, ...]
    rows: int
    is_text: bool


@dataclass(frozen=True)
class GoldenPlan:
    """Everything that the eager model is run on."""

    texts: tuple[GoldenText, ...]
    placed: tuple[tuple[str, tuple[PlacedCall, ...]], ...]

    @property
    def steps(self) -> int:
        """Rows in all, for progress."""
        return sum(text.rows for text in self.texts) + sum(len(calls) for _, calls in self.placed)


def plan_golden(
    prepared: Preparation, tokenizer: Tokenizer, chats: tuple[ChatCase, ...]
) -> GoldenPlan:
    """Choose texts, one of which wraps every ring if it may be that long, and placed tokens."""
    texts = tuple(_texts(prepared, tokenizer, chats))
    longest = max(len(text.ids) + (0 if text.is_text else text.rows - 1) for text in texts)
    return GoldenPlan(texts, tuple(_placed(prepared, longest)))


def golden_tokens(prepared: Preparation) -> int:
    """Return the rows of a short text."""
    wanted = prepared.spec.golden_tokens
    if wanted is None:
        wanted = _LARGE_TOKENS if is_large(prepared) else _SMALL_TOKENS
    return min(wanted, max(1, prepared.caches.context_length // 2))


def is_large(prepared: Preparation) -> bool:
    """Say whether the eager model takes seconds a token, so that choices are not fed back."""
    return prepared.parameters > LARGE_PARAMETERS


def longest_pass(prepared: Preparation) -> int:
    """Return the most tokens that the eager model reads at once, for predictions of memory."""
    context = prepared.caches.context_length
    table = 0 if is_large(prepared) else min(_TABLE_TOKENS, context)
    return max(table, min(_long_length(prepared) + golden_tokens(prepared), context))


def all_tokens(prepared: Preparation) -> int:
    """Return about how many tokens the eager model reads in all, for predictions of memory."""
    context, large = prepared.caches.context_length, is_large(prepared)
    short = (1 if large else _SHORT_TEXTS) * (_SHORT_PROMPT + golden_tokens(prepared))
    table = 0 if large else min(_TABLE_TOKENS, context)
    long = min(_long_length(prepared) + golden_tokens(prepared), context)
    return short + table + long + 3 * _EDGE_TOKENS + _END_TOKENS


def golden_ways(prepared: Preparation) -> int:
    """Return in how many ways to round each token is read: none, and two or one for a backend.

    Caches that are not measured yet count as int8.
    """
    if all(rule.scheme is None for rule in prepared.rules.values()):
        return 1
    coded = [prepared.kv_choices(backend) != (FLOAT32,) for backend in prepared.backends]
    return 1 + sum(2 if one else 1 for one in coded)


def text_rows(prepared: Preparation) -> int:
    """Return the rows of the longest text."""
    if is_large(prepared) and prepared.spec.golden_tokens is None:
        return min(_LARGE_TEXT_ROWS, max(1, prepared.caches.context_length // 2))
    return golden_tokens(prepared)


def _texts(
    prepared: Preparation, tokenizer: Tokenizer, chats: tuple[ChatCase, ...]
) -> Iterator[GoldenText]:
    rows, large = golden_tokens(prepared), is_large(prepared)
    room = max(1, prepared.caches.context_length - rows)
    prompts = {name: tuple(tokenizer.encode_prompt(text)) for name, text in SHORT_PROMPTS}
    if chats:
        prompts["chat"] = chats[0].ids
    if large:
        prompts = dict(list(prompts.items())[:1])
    for name, ids in prompts.items():
        yield GoldenText(name, ids[:room], min(rows, len(ids)) if large else rows, large)
    length = min(_long_length(prepared), room, _LONGEST_PROMPT)
    ids = tuple(long_ids(tokenizer, length))
    wanted = min(text_rows(prepared), len(ids)) if large else rows
    yield GoldenText("long", ids, wanted, large)


def _long_length(prepared: Preparation) -> int:
    """Return the tokens of a text, past the end of every ring if that is not too much work.

    Fed tokens are included in the text of a large model.
    """
    rings = [cache.capacity for cache in prepared.caches.layers if cache.layout.overwrites]
    beyond = 7 + (text_rows(prepared) if is_large(prepared) else prepared.caches.chunk)
    length = min(max(rings, default=0) + beyond, _LONGEST_PROMPT)
    work = prepared.parameters * golden_ways(prepared) * length
    return beyond if is_large(prepared) and work > _MOST_MULTIPLY_ADDS else length


def _placed(prepared: Preparation, longest: int) -> Iterator[tuple[str, tuple[PlacedCall, ...]]]:
    caches, vocab_size = prepared.caches, prepared.checkpoint.config.vocab_size
    context, chunk = caches.context_length, caches.chunk
    reached = longest
    if not is_large(prepared):
        tokens = min(_TABLE_TOKENS, context, vocab_size)
        # Every row of a small table, and of a large one rows at equal distances.
        yield "table", _in_chunks(0, _spread(tokens, vocab_size), chunk)
        reached = max(reached, tokens)
    rings = [cache for cache in caches.layers if cache.layout.overwrites]
    widest = max(rings, key=lambda cache: cache.capacity, default=None)
    if widest is not None and widest.window is not None and longest <= widest.capacity:
        starts = (0, widest.window - _EDGE_TOKENS // 2, widest.capacity - _EDGE_TOKENS // 2)
        yield "edge", _at(starts, context, _spread(3 * _EDGE_TOKENS, vocab_size), chunk)
    if reached < context:
        count = min(_END_TOKENS, context)
        ids = _spread(count, vocab_size)
        single = min(_SINGLE_TOKENS, count)
        first, last = ids[: count - single], ids[count - single :]
        calls = _in_chunks(context - count, first, chunk)
        yield "end", (*calls, *_in_chunks(context - single, last, 1))


def _spread(count: int, vocab_size: int) -> tuple[int, ...]:
    """Return ids at equal distances over the table, both ends included."""
    if count < 2:
        return (0,) * count
    return tuple(i * (vocab_size - 1) // (count - 1) for i in range(count))


def _in_chunks(position: int, ids: tuple[int, ...], chunk: int) -> tuple[PlacedCall, ...]:
    return tuple(
        PlacedCall(position + start, ids[start : start + chunk])
        for start in range(0, len(ids), chunk)
    )


def _at(
    starts: tuple[int, ...], context: int, ids: tuple[int, ...], chunk: int
) -> tuple[PlacedCall, ...]:
    """Return calls of a few tokens at each start, the first together, the others one by one."""
    calls: list[PlacedCall] = []
    end = 0
    for number, first in enumerate(starts):
        start = max(end, first)
        stop = min(first + _EDGE_TOKENS, context)
        if stop <= start:
            continue
        taken = ids[number * _EDGE_TOKENS :][: stop - start]
        calls += _in_chunks(start, taken, chunk if number == 0 else 1)
        end = stop
    return tuple(calls)
