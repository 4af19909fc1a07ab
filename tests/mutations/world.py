"""A world of small inputs: checkpoints, a bundle, a recipe, two reports, a device's answers; no
artifact is run.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from pocketlm.edge_build import backends
from pocketlm.edge_build.file_entries import file_entries
from pocketlm.edge_build.planned_bundle import BuildChoices, plan_bundle
from pocketlm.edge_build.progress import Advance, ignore
from pocketlm.edge_build.runner_files.repairing import RunnerFiles, write_repaired
from pocketlm.edge_build.runner_files.writing import complete_config
from pocketlm.edge_build.stages import ResultFormat, Stages
from pocketlm.edge_build.text.checkpoint_files import CheckpointFiles
from pocketlm.edge_build.text_files import TextFiles, read_text_files
from pocketlm.models.checkpoint import open_checkpoint
from pocketlm.models.random_checkpoint import write_random_checkpoint
from pocketlm.models.shapes import shape_of
from pocketlm.runtime_py.bundle import read_bundle
from pocketlm.runtime_py.chat_template import read_chat_template
from pocketlm.runtime_py.golden import ChatCase, Golden, TokenizerCase
from pocketlm.runtime_py.golden_cases import GoldenCase, PlacedCall, PlacedCase
from pocketlm.runtime_py.logits_digest import greedy_margin, make_digest
from pocketlm.runtime_py.manifest import MANIFEST_NAME, Manifest
from pocketlm.runtime_py.recorded_settings import SETTINGS, RecordedSettings
from pocketlm.runtime_py.tokenizer import read_tokenizer
from tests.coded_checkpoints import gguf_checkpoint, gptq_checkpoint
from tests.conftest import TINY_PUBLISHED
from tests.device_tests.report.sample_reports import sample_report
from tests.manifests import manifest_of
from tests.mutations.job_device import FILES
from tests.mutations.surroundings import row_of

CHECKPOINT, QWEN, SHARDED, BUNDLE = "checkpoint", "qwen", "sharded", "bundle"
GGUF, CODED = "tiny.gguf", "gptq"
RECIPE, REPORTS = "mixed.toml", ("before.json", "after.json")
DEVICE, STAGES, TEMPORARY = "device", "stages", "temporary"
_MODELS = {"executorch": "executorch/model.pte", "onnx": "onnx/model.onnx"}
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
_GENAI = {
    "model": {"type": "gemma3_text", "context_length": 64, "bos_token_id": 2, "eos_token_id": [1]},
    "search": {"do_sample": False, "max_length": 64, "top_k": 1},
}


def make_world(world: Path) -> None:
    """Write the inputs below a folder."""
    for folder, family in ((CHECKPOINT, "gemma3_text"), (QWEN, "qwen3")):
        write_random_checkpoint(shape_of("tiny", TINY_PUBLISHED[family]), world / folder, 7)
    _shard(world / CHECKPOINT, world / SHARDED)
    gguf_checkpoint(world / CHECKPOINT, world / GGUF, "Q4_0")
    gptq_checkpoint(world / CHECKPOINT, world / CODED, 32)
    (world / RECIPE).write_text(_RECIPE)
    for name, samples in zip(REPORTS, (12, 8), strict=True):
        (world / name).write_text(sample_report(samples=samples).to_json())
    _make_bundle(world / CHECKPOINT, world / BUNDLE)
    _make_stage(world / STAGES)
    (world / TEMPORARY).mkdir()
    (world / DEVICE).mkdir()
    for name, text in FILES.items():
        (world / DEVICE / name).write_text(text)


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
    from pocketlm.models.families import gemma3_text
    from pocketlm.models.tensor_views import published_name

    spelled = [published_name(gemma3_text.FAMILY.tensor_names, name) for name in names]
    index = {
        "metadata": {"total_size": 1},
        "weight_map": dict.fromkeys(spelled, "part.safetensors"),
    }
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))


def _make_bundle(checkpoint: Path, bundle: Path) -> None:
    """Write what a build writes, with few bytes for the artifact."""
    opened = open_checkpoint(checkpoint)
    files = CheckpointFiles.read(checkpoint, opened.config_json)
    text = read_text_files(files, opened.config)
    bundle.mkdir()
    text.copy_to(bundle)
    _write_runner_files(text, bundle)
    inputs = plan_bundle("tiny", opened.config, BuildChoices("int4-g32", 64, 8))
    planned = manifest_of(inputs, _MODELS)
    entries = {
        name: replace(entry, runtime_floor={"numpy": "1.0"})
        for name, entry in planned.backends.items()
    }
    planned = replace(
        planned,
        backends=entries,
        bos_id=text.bos_id,
        stop_ids=text.stop_ids,
        notes=("made for a test",),
        build={"torch": "2.13.0"},
    )
    contents = {
        **dict.fromkeys(_MODELS.values(), "bytes"),
        "genai_config.json": json.dumps(_GENAI),
        **{entry.golden: "" for entry in entries.values()},
    }
    for name, content in contents.items():
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_text(content)
    seal(bundle, planned)
    golden = _golden(bundle).to_json()
    for entry in entries.values():
        (bundle / entry.golden).write_text(golden)
    sealed = seal(bundle, planned)
    (bundle / SETTINGS).write_text(RecordedSettings.of(sealed).to_json())
    seal(bundle, planned)


def _write_runner_files(text: TextFiles, bundle: Path) -> None:
    """Write what stock runners read, in this process."""
    config = complete_config(bundle, text.chat_template, text.special_tokens, text.stop_ids)
    wanted = []
    for name in _MODELS:
        (bundle / name).mkdir()
        repairs = backends.load(name).tokenizer_repairs
        wanted.append(RunnerFiles(bundle / name, config, repairs))
    write_repaired(bundle / "tokenizer.json", wanted)


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
        logits = row_of(history[-1], opened.manifest.vocab_size)
        digests.append(make_digest(logits, len(history) - 1))
        margins.append(greedy_margin(logits, tokenizer.size))
        history.append(int(np.argmax(logits[: tokenizer.size])))
    made = tuple(history[len(prompt) :])
    logits = row_of(made[0], opened.manifest.vocab_size)
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
