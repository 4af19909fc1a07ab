"""A world of small inputs: a checkpoint, a bundle, a recipe, two reports; no artifact is run."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from edge_build.file_entries import file_entries
from edge_build.planned_manifest import BuildChoices, plan_manifest
from edge_build.progress import Advance, ignore
from edge_build.stages import ResultFormat, Stages
from edge_build.text_files import read_text_files
from models.checkpoint import open_checkpoint
from models.random_checkpoint import write_random_checkpoint
from models.shapes import shape_of
from runtime_py import engines
from runtime_py.bundle import read_bundle
from runtime_py.chat_template import read_chat_template
from runtime_py.engine import Engine
from runtime_py.golden import ChatCase, Golden, TokenizerCase
from runtime_py.golden_cases import GoldenCase, PlacedCall, PlacedCase
from runtime_py.logits_digest import greedy_margin, make_digest
from runtime_py.manifest import MANIFEST_NAME, Manifest
from runtime_py.recorded_settings import SETTINGS, RecordedSettings
from runtime_py.tokenizer import read_tokenizer
from tests.conftest import TINY_PUBLISHED
from tests.device_tests.report.sample_reports import sample_report

CHECKPOINT, SHARDED, BUNDLE, STAGES = "checkpoint", "sharded", "bundle", "stages"
RECIPE, REPORTS, STATE = "mixed.toml", ("before.json", "after.json"), "state.txt"
_RECIPE = """
[[rules]]
pattern = "lm_head"
bits = 8
reason = "the head in eight bits"

[[rules]]
pattern = "*"
bits = 4
group_size = 32
"""
_STATE = """
@@ there
yes
@@ begun
4711 1000
@@ running
yes
@@ boot
c0ffee
@@ ended
abc 0 0
@@ disk
Filesystem 1024-blocks Used Available Capacity Mounted on
/dev/root 1000 500 500 50% /
@@ end
12
@@ output
{"event": "phase"}
"""
_GENAI = {
    "model": {"type": "gemma3_text", "context_length": 64, "bos_token_id": 2, "eos_token_id": [1]},
    "search": {"do_sample": False, "max_length": 64, "top_k": 1},
}


class _Model:
    """An artifact whose answer depends on the last token alone."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def run(self, tokens: Any, position: int) -> NDArray[np.float32]:
        return _row(tokens[-1], self.vocab_size)

    def reset(self) -> None: ...

    def clear(self) -> None: ...

    def rewind_error(self, length: int, target: int) -> str | None:
        return None

    def close(self) -> None: ...


@contextmanager
def doubled_engines() -> Iterator[None]:
    """Run any artifact without a runtime."""

    def load(folder: Path, manifest: Manifest, entry: Any, threads: int | None) -> _Model:
        return _Model(manifest.vocab_size)

    def found(name: str) -> Engine:
        return Engine(name, (), load)

    with (
        patch.object(engines, "load", found),
        patch("edge_build.memory_limit.return_freed_memory"),
    ):
        yield


def make_world(world: Path) -> None:
    """Write the inputs below a folder."""
    write_random_checkpoint(shape_of("tiny", TINY_PUBLISHED["gemma3_text"]), world / CHECKPOINT, 7)
    _shard(world / CHECKPOINT, world / SHARDED)
    (world / RECIPE).write_text(_RECIPE)
    for name, samples in zip(REPORTS, (12, 8), strict=True):
        (world / name).write_text(sample_report(samples=samples).to_json())
    _make_bundle(world / CHECKPOINT, world / BUNDLE)
    (world / STATE).write_text(_STATE)
    _make_stage(world / STAGES)


def _make_stage(folder: Path) -> None:
    """Finish a stage as an interrupted build leaves it."""
    folder.mkdir()
    stages = Stages(folder, "key", ("quantize",), ignore)

    def work(folder: Path, advance: Advance) -> dict[str, int]:
        (folder / "codes").write_bytes(b"codes")
        return {"tensors": 3}

    stages.run("quantize", work, ResultFormat(lambda made, _: made, lambda read, _: dict(read)))


def _shard(checkpoint: Path, sharded: Path) -> None:
    """Copy a checkpoint under another file name for its weights, which an index names."""
    sharded.mkdir()
    for path in checkpoint.iterdir():
        name = path.name.replace("model.safetensors", "part.safetensors")
        (sharded / name).write_bytes(path.read_bytes())
    names = open_checkpoint(checkpoint).tensors
    published = json.loads((checkpoint / "config.json").read_text())
    assert published["model_type"] == "gemma3_text"
    from models.families import gemma3_text
    from models.weight_shapes import published_name

    spelled = [published_name(gemma3_text.FAMILY.tensor_names, name) for name in names]
    index = {
        "metadata": {"total_size": 1},
        "weight_map": dict.fromkeys(spelled, "part.safetensors"),
    }
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))


def _make_bundle(checkpoint: Path, bundle: Path) -> None:
    """Write what a build writes, with few bytes for the artifact."""
    opened = open_checkpoint(checkpoint)
    text = read_text_files(checkpoint, opened.config)
    bundle.mkdir()
    text.copy_to(bundle)
    planned = plan_manifest(
        "tiny", opened.config, BuildChoices("int4-g32", 64, 8, backends=("onnx",))
    )
    entry = replace(
        planned.backends["onnx"],
        model="onnx/model.onnx",
        golden="golden/onnx.json",
        runtime_floor={"numpy": "1.0"},
    )
    planned = replace(
        planned,
        backends={"onnx": entry},
        bos_id=text.bos_id,
        stop_ids=text.stop_ids,
        notes=("made for a test",),
        build={"torch": "2.13.0"},
    )
    contents = {
        "onnx/model.onnx": "bytes",
        "genai_config.json": json.dumps(_GENAI),
        entry.golden: "",
    }
    for name, content in contents.items():
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_text(content)
    seal(bundle, planned)
    (bundle / entry.golden).write_text(_golden(bundle).to_json())
    sealed = seal(bundle, planned)
    (bundle / SETTINGS).write_text(RecordedSettings.of(sealed).to_json())
    seal(bundle, planned)


def seal(bundle: Path, manifest: Manifest) -> Manifest:
    """Write a manifest that lists the files as they are, and return it."""
    (bundle / MANIFEST_NAME).unlink(missing_ok=True)
    listed = replace(manifest, files=file_entries(bundle))
    (bundle / MANIFEST_NAME).write_text(listed.to_json())
    return listed


def _golden(bundle: Path) -> Golden:
    opened = read_bundle(bundle)
    tokenizer, template = read_tokenizer(opened), read_chat_template(opened)
    assert template is not None
    messages = ({"role": "user", "content": "hello"},)
    rendered = template.render(messages)
    prompt = tokenizer.encode_prompt("hello")
    history, margins, digests = list(prompt), [], []
    for _ in range(3):
        logits = _row(history[-1], opened.manifest.vocab_size)
        digests.append(make_digest(logits, len(history) - 1))
        margins.append(greedy_margin(logits, tokenizer.size))
        history.append(int(np.argmax(logits[: tokenizer.size])))
    made = tuple(history[len(prompt) :])
    logits = _row(made[0], opened.manifest.vocab_size)
    return Golden(
        tokenizer_cases=(TokenizerCase("hello", tuple(tokenizer.encode("hello"))),),
        chat_cases=(ChatCase(messages, {}, rendered, tuple(tokenizer.encode(rendered))),),
        stop_ids=opened.manifest.stop_ids,
        activation_quantization="none",
        tolerance=1e-3,
        exact_tolerance=1e-3,
        cases=(GoldenCase("hello", tuple(prompt), made, tuple(margins), tuple(digests)),),
        placed_cases=(
            PlacedCase("far", (PlacedCall(40, (made[0],)),), (make_digest(logits, 40),)),
        ),
        moment="2026-01-01T12:00:00",
    )


def _row(token: int, vocab_size: int) -> NDArray[np.float32]:
    return np.random.default_rng(token).standard_normal(vocab_size).astype(np.float32)
