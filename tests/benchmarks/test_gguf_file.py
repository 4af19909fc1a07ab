"""llama.cpp computes from our GGUF files what our Decoder computes from the checkpoint.

Runs where `make bench` has made llama.cpp's environment.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.processes import ROOT
from pocketlm.models.checkpoint import load_decoder, open_checkpoint
from pocketlm.models.random_checkpoint import write_random_checkpoint
from pocketlm.models.shapes import shape_of
from tests.conftest import TINY_PUBLISHED

PYTHON = ROOT / "build" / "peers" / "llama.cpp" / "bin" / "python"
WINDOW = 16
IDS = [2, *range(100, 100 + 3 * WINDOW)]
# llama.cpp knows Gemma 3's pattern by heart: every sixth layer sees everything.
GEMMA3 = {
    **TINY_PUBLISHED["gemma3_text"],
    "num_hidden_layers": 7,
    "sliding_window": WINDOW,
    "layer_types": [*["sliding_attention"] * 5, "full_attention", "sliding_attention"],
}
QWEN3 = {**TINY_PUBLISHED["qwen3"], "rope_theta": 1_000_000.0}
PUBLISHED: dict[str, dict[str, Any]] = {
    "gemma3_text": GEMMA3,
    "gemma3_text with scaled positions": {
        **GEMMA3,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "qwen3": QWEN3,
    "qwen3, tied": {**QWEN3, "tie_word_embeddings": True},
}

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="needs build/peers/llama.cpp; run make bench-peers"
)


def peer(*arguments: str) -> str:
    run = subprocess.run(
        [PYTHON, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def llama_logits(path: Path, vocab_size: int) -> np.ndarray[Any, Any]:
    module = "benchmarks.conversion.llama_logits"
    out = peer(module, str(path), json.dumps(IDS), "--vocab-size", str(vocab_size))
    return np.array(json.loads(out.splitlines()[-1]))


def correlation_with_decoder(
    published: dict[str, Any], folder: Path, quantized: bool = False
) -> float:
    checkpoint = folder / "checkpoint"
    write_random_checkpoint(shape_of("tiny", published), checkpoint, 3)
    peer("benchmarks.conversion.gguf_file", str(checkpoint), str(folder / "model.gguf"))
    path = folder / "model.gguf"
    if quantized:
        path = folder / "q4_0.gguf"
        peer("benchmarks.conversion.quantized_gguf", str(folder / "model.gguf"), str(path))
    with torch.no_grad():
        decoder = load_decoder(open_checkpoint(checkpoint))
        expected = decoder(torch.tensor([IDS]))[0, -1].numpy()
    found = llama_logits(path, len(expected))
    return float(np.corrcoef(found, expected)[0, 1])


@pytest.mark.parametrize("name", PUBLISHED)
def test_llama_cpp_agrees_with_the_decoder(name: str, tmp_path: Path) -> None:
    # It rounds activations to bfloat16 before every product: 8 bits, no more.
    assert correlation_with_decoder(PUBLISHED[name], tmp_path) > 0.999


def test_its_quantized_file_is_still_the_same_model(tmp_path: Path) -> None:
    # 4 bits on Gaussian weights are 20 dB a tensor; seven layers of them leave this much.
    assert correlation_with_decoder(GEMMA3, tmp_path, quantized=True) > 0.9
