"""The stock onnxruntime-genai runs our files unchanged and picks the ids that our session picks."""

import json
from pathlib import Path

import pytest

from pocketlm.runtime_py import open_bundle, open_session
from pocketlm.runtime_py.kv_choice import KvName
from pocketlm.runtime_py.tokenizer import read_tokenizer
from tests.artifacts import CHUNK, CONTEXT, Build, lowered_onnx
from tests.stock_runners import ask_stock_runner

_SCRIPT = """
import onnxruntime_genai as genai
model = genai.Model(sys.argv[1])
params = genai.GeneratorParams(model)
params.set_search_options(max_length=int(sys.argv[2]), do_sample=False)
generator = genai.Generator(model, params)
ids = []
for turn in json.loads(sys.argv[3]):
    generator.append_tokens(turn)
while not generator.is_done():
    generator.generate_next_token()
    ids.append(int(generator.get_next_tokens()[0]))
answer(ids)
"""

_TOKENIZE = """
import onnxruntime_genai as genai
tokenizer = genai.Tokenizer(genai.Model(sys.argv[1]))
answer([int(token) for token in tokenizer.encode(sys.argv[2])])
"""


def stock_ids(folder: Path, turns: list[list[int]], max_length: int) -> list[int]:
    """Return what the stock runner generates greedily."""
    ids: list[int] = ask_stock_runner(_SCRIPT, folder, max_length, json.dumps(turns))
    return ids


@pytest.mark.parametrize("kv", ["float32", "int8"])
@pytest.mark.parametrize("family", ["gemma3_text", "gemma2", "qwen3"])
def test_tiny_artifact_gives_our_ids_past_three_wraps(family: str, kv: KvName) -> None:
    built = lowered_onnx(Build(family, kv=kv))
    prompt = [2, *range(300, 300 + 2 * CHUNK + 1)]
    found = stock_ids(built.folder, [prompt], CONTEXT)
    model = built.load()
    for start in range(0, len(prompt), CHUNK):
        logits = model.run(prompt[start : start + CHUNK], start)[-1]
    expected = []
    for position in range(len(prompt), CONTEXT + 1):
        expected.append(int(logits.argmax()))
        if expected[-1] in built.source.stop_ids or position == CONTEXT:
            break
        logits = model.run(expected[-1:], position)[-1]
    # The runner stops at max_length, one id before a session does.
    assert len(found) >= CONTEXT - len(prompt) or found[-1] in built.source.stop_ids
    assert found == expected[: len(found)]


@pytest.mark.parametrize("kv", ["float32", "int8"])
def test_shorter_caches_than_the_build_allows_give_the_same_ids(kv: KvName) -> None:
    # The runner allocates max_length slots for layers that keep everything.
    folder, prompt = lowered_onnx(Build("gemma3_text", kv=kv)).folder, [2, 300, 301]
    full = stock_ids(folder, [prompt], CONTEXT)
    assert stock_ids(folder, [prompt], CONTEXT // 2) == full[: CONTEXT // 2 - len(prompt)]


def test_a_second_turn_longer_than_the_chunk_is_taken_whole() -> None:
    folder, tokens = lowered_onnx(Build("gemma3_text")).folder, [2, *range(300, 320)]
    whole = stock_ids(folder, [tokens], CONTEXT)
    assert stock_ids(folder, [tokens[:4], tokens[4:]], CONTEXT) == whole


def test_pico_gives_our_ids_past_a_ring_wrap(pico_bundle: Path) -> None:
    manifest = open_bundle(pico_bundle).manifest
    slots = min(cache.capacity for cache in manifest.backends["onnx"].caches)
    prompt = [2, *range(300, 300 + slots)]
    expected = []
    with open_session(pico_bundle, backend="onnx") as session:
        logits = session.prefill(prompt)
        for _ in range(64):
            expected.append(int(logits.argmax()))
            logits = session.decode(expected[-1])
    found = stock_ids(pico_bundle, [prompt], len(prompt) + 64)
    assert found == expected[: len(found)]
    assert len(found) == 64 or found[-1] in manifest.stop_ids


def test_stock_tokenizer_reads_the_bundle(pico_bundle: Path) -> None:
    text = "def parse(line):\n    return line.split()"
    ids = ask_stock_runner(_TOKENIZE, pico_bundle, text)
    assert ids == read_tokenizer(open_bundle(pico_bundle)).encode(text)
