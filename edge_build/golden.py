"""Records golden answers from the eager quantized model: what every artifact has to say.

The reference keeps all keys and masks by position, so a ring that loses a key cannot agree.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from pocketlm.edge_build.backend import Artifact
from pocketlm.edge_build.golden_plan import is_large, plan_golden
from pocketlm.edge_build.golden_recorder import Recorder
from pocketlm.edge_build.golden_texts import TOKENIZER_TEXTS
from pocketlm.edge_build.kv_scales import KvScales
from pocketlm.edge_build.preparation import Preparation
from pocketlm.edge_build.progress import Advance
from pocketlm.edge_build.prompts import open_tokenizer
from pocketlm.edge_build.quantization.activations import Rounding
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.edge_build.reference import reference_threads
from pocketlm.runtime_py.chat_template import MOMENT
from pocketlm.runtime_py.golden import Golden, TokenizerCase
from pocketlm.runtime_py.golden_coverage import coverage_of
from pocketlm.runtime_py.memory_advice import huge_page_heap

_HEAP_BYTES = 1 << 30


def record_golden(
    prepared: Preparation,
    weights: WeightStore,
    kv_scales: KvScales | None,
    artifacts: Mapping[str, Artifact],
    bundle: Path,
    advance: Advance,
) -> dict[str, str]:
    """Write golden/BACKEND.json for each artifact.

    Args:
        kv_scales: the constant scales that artifacts were lowered with, if any.

    Returns:
        Backend name → path of its file, relative to the bundle.
    """
    tokenizer = open_tokenizer(prepared.text)
    chats = prepared.text.chats
    texts = tuple(TokenizerCase(text, tuple(tokenizer.encode(text))) for text in TOKENIZER_TEXTS)
    plan = plan_golden(prepared, tokenizer, chats)
    recorder = Recorder(prepared, weights, kv_scales, plan, advance)
    # A large model's activations are a hundred megabytes each: without a heap that keeps them, the
    # kernel hands out and clears every page of every one of them anew.
    heap = huge_page_heap(_HEAP_BYTES) if is_large(prepared) else nullcontext()
    with reference_threads(prepared.parameters), heap:
        recorded = recorder.record_all(tuple(dict.fromkeys(map(_rounding, artifacts.values()))))
    (bundle / "golden").mkdir()
    paths = {}
    for name, artifact in artifacts.items():
        rounding = _rounding(artifact)
        answers = recorded[rounding]
        golden = Golden(
            activation_quantization=rounding.activations,
            attention_quantization=rounding.attention,
            tolerance=answers.tolerance,
            exact_tolerance=answers.exact_tolerance,
            stop_ids=prepared.text.stop_ids,
            tokenizer_cases=texts,
            chat_cases=chats,
            cases=answers.cases,
            placed_cases=answers.placed,
            moment=MOMENT,
        )
        paths[name] = f"golden/{name}.json"
        (bundle / paths[name]).write_text(golden.to_json(), encoding="utf-8")
    return paths


def untouched_notes(
    prepared: Preparation,
    artifacts: Mapping[str, Artifact],
    folder: Path,
    goldens: Mapping[str, str],
) -> tuple[str, ...]:
    """Say what the golden answers in `folder` do not touch, for the manifest."""
    sizes = prepared.caches.context_length, prepared.checkpoint.config.vocab_size
    found: dict[str, None] = {}
    for name, path in goldens.items():
        golden = Golden.from_json((folder / path).read_text(encoding="utf-8"))
        missing = coverage_of(golden, artifacts[name].caches, *sizes).not_touched
        if missing:
            found[f"no golden answer touches: {'; '.join(missing)}"] = None
    return tuple(found)


def _rounding(artifact: Artifact) -> Rounding:
    return Rounding.over(
        artifact.caches, artifact.activation_quantization, artifact.attention_quantization
    )
