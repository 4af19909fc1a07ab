"""Ledgers that were measured, held against what is predicted today: a family each, line by line."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest

from pocketlm.device_tests.memory.ledger import compare
from pocketlm.device_tests.memory.values import PartBytes
from pocketlm.edge_build.planned_bundle import BuildChoices, plan_bundle
from pocketlm.models import shapes
from pocketlm.runtime_py.kv_choice import KvChoice
from pocketlm.runtime_py.memory_parts import PARTS, Part
from pocketlm.runtime_py.memory_prediction import Positions, predict

RESULTS = Path("benchmarks/results/2026-11-22-device-ledger-gemma-3-270m.json")
# Which rows of the table are read is the text's.
ROWS = "embedding rows"


@dataclass(frozen=True)
class Measured:
    """A run of a published shape with random or published weights, in chunks of 128."""

    shape: str
    layers: int
    backend: str
    architecture: str
    context_length: int
    kv: Literal["float32", "int8"]
    tokens: int
    peak_bytes: int
    parts: dict[Part, int]


def published() -> Iterator[Measured]:
    """Gemma 3, in an emulated machine."""
    document = json.loads(RESULTS.read_text())
    for row in document["rows"]:
        # Each pair is predicted and measured.
        parts = {part: measured for part, (_, measured) in row["parts"].items()}
        tokens = document["prompt_tokens"] + document["decode_tokens"]
        yield Measured(
            row["bundle"], 18, row["backend"], "aarch64", row["context_length"], row["kv"],
            tokens, row["peak_bytes"][1], parts,
        )  # fmt: skip


# Of the first layers of these, with random weights: 512 tokens and 64 decoded on x86-64, while
# other processes used both cores.
QWEN3_EXECUTORCH = Measured(
    "qwen3-0.6b", 4, "executorch", "x86_64", 1024, "float32", 576, 218_947_584,
    {
        "weights, mapped": 421_888,
        "weights, packed": 129_511_424,
        "KV cache, global": 18_874_368,
        "activations": 4_243_456,
        "logits": 610_304,
        "runtime memory": 933_888,
        "runtime code": 9_854_976,
    },
)  # fmt: skip
QWEN3_ONNX = Measured(
    "qwen3-0.6b", 4, "onnx", "x86_64", 1024, "float32", 576, 321_622_016,
    {
        "weights, packed": 164_057_088,
        "KV cache, global": 18_874_368,
        "activations": 24_088_576,
        "logits": 610_304,
        "runtime memory": 9_986_048,
        "runtime code": 20_955_136,
    },
)  # fmt: skip
GEMMA_2_EXECUTORCH = Measured(
    "gemma-2-2b", 2, "executorch", "x86_64", 1024, "float32", 576, 760_217_600,
    {
        "weights, mapped": 409_600,
        "weights, packed": 434_688_000,
        "KV cache, global": 9_437_184,
        "activations": 11_137_024,
        "logits": 1_024_000,
        "runtime memory": 757_760,
        "runtime code": 9_404_416,
    },
)  # fmt: skip
GEMMA_2_ONNX = Measured(
    "gemma-2-2b", 2, "onnx", "x86_64", 1024, "float32", 576, 1_061_789_696,
    {
        "weights, packed": 559_296_512,
        "KV cache, global": 9_437_184,
        "activations": 31_563_776,
        "logits": 1_024_000,
        "runtime memory": 9_445_376,
        "runtime code": 20_975_616,
    },
)  # fmt: skip
LEDGERS = (*published(), QWEN3_EXECUTORCH, QWEN3_ONNX, GEMMA_2_EXECUTORCH, GEMMA_2_ONNX)


def name_of(measured: Measured) -> str:
    return f"{measured.shape}-{measured.backend}-{measured.kv}-{measured.context_length}"


@pytest.mark.parametrize("measured", LEDGERS, ids=name_of)
def test_every_line_and_the_peak_are_within_the_band(measured: Measured) -> None:
    config = shapes.load(measured.shape).config
    config = replace(config, layers=config.layers[: measured.layers])
    choices = BuildChoices("int4-g32", measured.context_length, 128, KvChoice.named(measured.kv))
    inputs = plan_bundle(measured.shape, config, choices)
    prediction = predict(
        inputs,
        measured.backend,
        Positions(measured.tokens, min(128, measured.tokens), frozenset({0})),
        measured.architecture,
    )
    prediction = replace(prediction, parts=tuple(p for p in prediction.parts if p.part != ROWS))
    parts = [PartBytes(p, PARTS[p], size) for p, size in measured.parts.items() if p != ROWS]
    found = compare(prediction, parts, measured.peak_bytes)
    assert len(found.lines) == len(parts) == len(prediction.parts)
    assert [line.part for line in found.lines if not line.within] == []
    assert found.passed


def test_every_family_has_a_measured_ledger_on_both_backends() -> None:
    families = {
        (shapes.load(measured.shape).config.model_type, measured.backend) for measured in LEDGERS
    }
    assert families == {
        (family, backend)
        for family in ("gemma3_text", "gemma2", "qwen3")
        for backend in ("executorch", "onnx")
    }
