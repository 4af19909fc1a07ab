"""ExecuTorch's own TextLLMRunner runs our files unchanged and picks the ids that our engine picks.

It hands out text only, piece by piece, so ids are compared as the tokenizer's pieces.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import sentencepiece

pytest.importorskip("executorch")

from pocketlm.runtime_py import open_bundle, open_session
from pocketlm.runtime_py.sampling import greedy_id
from tests.artifacts import CHUNK, CONTEXT, TOKENIZER_SIZE, lowered_executorch
from tests.conftest import PICO
from tests.stock_runners import ask_stock_runner

_SCRIPT = """
import executorch.kernels.quantized
from executorch.extension.llm.custom_ops import custom_ops
from executorch.extension.llm.runner import GenerationConfig, TextLLMRunner
model, tokenizer, new_tokens, *prompts = sys.argv[1:]
options = GenerationConfig(
    echo=False, temperature=0.0, max_new_tokens=int(new_tokens), num_bos=1
)
found = []
for prompt in prompts:
    pieces, stats = [], []
    TextLLMRunner(model, tokenizer).generate(prompt, options, pieces.append, stats.append)
    found.append([stats[0].num_prompt_tokens, pieces])
answer(found)
"""


@cache
def stock_pieces(pte: Path, new_tokens: int, *prompts: str) -> dict[str, tuple[int, list[str]]]:
    """Return the stock runner's count of tokens by prompt, and the pieces that it generates.

    A runner for each prompt, in one process: to import it takes longer than what it generates.
    """
    tokenizer = PICO / "tokenizer.model"
    found = ask_stock_runner(_SCRIPT, pte, tokenizer, new_tokens, *prompts)
    return {prompt: (count, pieces) for prompt, (count, pieces) in zip(prompts, found, strict=True)}


def greedy(
    run: Callable[[list[int]], int], prompt: list[int], new_tokens: int, stop_ids: tuple[int, ...]
) -> list[int]:
    """Return what greedy choice gives; like the stock runner it does not stop at the first id."""
    ids = [run(prompt)]
    while len(ids) < new_tokens and (len(ids) == 1 or ids[-1] not in stop_ids):
        ids.append(run([ids[-1]]))
    return ids


def pieces_of(processor: sentencepiece.SentencePieceProcessor, ids: list[int]) -> list[str]:
    """Return each id as the runner's tokenizer spells it; bytes keep their "<0x7E>"."""
    return [processor.id_to_piece(token).replace("▁", " ") for token in ids]


@pytest.fixture(scope="module")
def processor() -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(str(PICO / "tokenizer.model"))


PROMPTS = ("The function returns a list of", "def write(self, name):")


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("built", ["pico_bundle", "pico_int8_bundle"])
def test_pico_gives_our_ids_past_a_ring_wrap(
    built: str,
    prompt: str,
    processor: sentencepiece.SentencePieceProcessor,
    request: pytest.FixtureRequest,
) -> None:
    new_tokens = 250
    folder: Path = request.getfixturevalue(built)
    bundle = open_bundle(folder)
    entry = bundle.manifest.backends["executorch"]
    ids = [2, *processor.encode(prompt)]
    with open_session(bundle, backend="executorch") as session:
        expected = greedy(
            lambda tokens: greedy_id(session.prefill(tokens), session.vocab_size),
            ids,
            new_tokens,
            bundle.manifest.stop_ids,
        )
    ring = max(cache.capacity for cache in entry.caches if cache.kind == "ring")
    assert len(ids) + len(expected) > 2 * ring, "the text ended before the ring wrapped"
    count, pieces = stock_pieces(folder / entry.model, new_tokens, *PROMPTS)[prompt]
    assert count == len(ids)
    assert pieces == pieces_of(processor, expected)


def test_tokenizer_larger_than_the_model_is_never_chosen_beyond_it(
    processor: sentencepiece.SentencePieceProcessor,
) -> None:
    # The stock sampler reads a logit for each of the tokenizer's ids; the model has 512.
    built = lowered_executorch("gemma2", "int4-channel")
    assert processor.vocab_size() == TOKENIZER_SIZE
    prompt = " of" * (2 * CHUNK)
    ids = [2, *processor.encode(prompt)]
    assert max(ids) < built.source.config.vocab_size
    assert len(ids) > 2 * CHUNK
    new_tokens = CONTEXT - len(ids)
    model, position = built.load(), 0

    def run(tokens: list[int]) -> int:
        nonlocal position
        for start in range(0, len(tokens), CHUNK):
            logits = model.run(tokens[start : start + CHUNK], position)[-1]
            position += len(tokens[start : start + CHUNK])
        return greedy_id(logits, 512)

    expected = greedy(run, ids, new_tokens, built.source.stop_ids)
    count, pieces = stock_pieces(built.model_file, new_tokens, prompt)[prompt]
    assert count == len(ids)
    assert pieces == pieces_of(processor, expected)
