"""Gemma 3 270M's published weights: stock runners answer with our very text, on both backends."""

import json
from typing import Any

import pytest

pytest.importorskip("executorch")
pytest.importorskip("onnxruntime_genai")

from pocketlm.edge_build.build import build
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.runtime_py import open_bundle, open_session
from pocketlm.runtime_py.bundle import Bundle
from pocketlm.runtime_py.chat_template import read_chat_template
from pocketlm.runtime_py.sampling import greedy_id
from pocketlm.runtime_py.tokenizer import read_tokenizer
from tests.assets import gemma3_270m
from tests.stock_runners import ask_stock_runner

pytestmark = pytest.mark.assets_heavy

NEW_TOKENS = 24
CODE = (
    "def total(values):\n    result = 0\n    for value in values:\n        result += value\n"
    "    return result\n\n\ndef mean(values):\n    if not values:\n        return"
)
MESSAGES = [{"role": "user", "content": "Where does the café in Köln stand?\n    Be brief."}]
_EXECUTORCH = """
import executorch.kernels.quantized
from executorch.extension.llm.custom_ops import custom_ops
from executorch.extension.llm.runner import GenerationConfig, TextLLMRunner
asked = json.loads(sys.argv[1])
runner = TextLLMRunner(asked["folder"] + "/model.pte", asked["folder"] + "/tokenizer.json")
options = GenerationConfig(
    echo=False, temperature=0.0, max_new_tokens=asked["new_tokens"], num_bos=asked["bos"]
)
pieces, stats = [], []
runner.generate(asked["prompt"], options, pieces.append, stats.append)
answer([stats[0].num_prompt_tokens, "".join(pieces)])
"""
_GENAI = """
import onnxruntime_genai as genai
asked = json.loads(sys.argv[1])
model = genai.Model(asked["folder"])
tokenizer = genai.Tokenizer(model)
prompt = asked["prompt"]
if asked["messages"]:
    prompt = tokenizer.apply_chat_template(json.dumps(asked["messages"]))
ids = [2] * asked["bos"] + tokenizer.encode(prompt).tolist()
params = genai.GeneratorParams(model)
params.set_search_options(max_length=len(ids) + asked["new_tokens"], do_sample=False)
generator = genai.Generator(model, params)
generator.append_tokens(ids)
stream, text = tokenizer.create_stream(), ""
while not generator.is_done():
    generator.generate_next_token()
    text += stream.decode(int(generator.get_next_tokens()[0]))
answer([len(ids), text])
"""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """One bundle for each backend, in short caches; made when the first test asks."""
    made = {}
    for backend in ("onnx", "executorch"):
        out = tmp_path_factory.mktemp("published") / backend
        spec = BuildSpec(
            gemma3_270m(),
            out,
            backends=(backend,),
            recipe="int4-g32",  # the weights lie on the grid of the file that they came from
            context_length=256,
            chunk=64,
            golden_tokens=2,
        )
        build(spec)
        made[backend] = open_bundle(out)
    return made


def ours(bundle: Bundle, backend: str, prompt: str) -> tuple[int, str]:
    """Return the prompt's count of tokens and the text of the greedy choices."""
    tokenizer = read_tokenizer(bundle)
    ids, chosen = tokenizer.encode_prompt(prompt), []
    with open_session(bundle, backend=backend) as session:
        logits = session.prefill(ids)
        while len(chosen) < NEW_TOKENS:
            chosen.append(greedy_id(logits, session.vocab_size))
            if chosen[-1] in bundle.manifest.stop_ids:
                break
            logits = session.decode(chosen[-1])
    return len(ids), tokenizer.decode(chosen)


def stock(script: str, asked: dict[str, Any]) -> tuple[int, str]:
    count, text = ask_stock_runner(script, json.dumps(asked))
    return int(count), str(text)


@pytest.mark.parametrize("kind", ["code", "chat"])
@pytest.mark.parametrize("backend", ["onnx", "executorch"])
def test_stock_runner_answers_with_our_text(
    backend: str, kind: str, bundles: dict[str, Bundle]
) -> None:
    bundle = bundles[backend]
    template = read_chat_template(bundle)
    assert template is not None
    prompt = CODE if kind == "code" else template.render(MESSAGES)
    expected = ours(bundle, backend, prompt)
    asked = {
        "folder": str(bundle.folder / backend if backend == "executorch" else bundle.folder),
        "prompt": prompt,
        "messages": MESSAGES if kind == "chat" else None,
        "new_tokens": NEW_TOKENS,
        # A rendered chat begins with the text <bos>.
        "bos": 0 if prompt.startswith("<bos>") else 1,
    }
    count, text = stock(_EXECUTORCH if backend == "executorch" else _GENAI, asked)
    assert count == expected[0]
    # ExecuTorch's runner also hands out the text of the stop token.
    assert text.removesuffix("<end_of_turn>").removesuffix("<eos>") == expected[1]
    assert len(expected[1].split()) > 2
