"""The float32 twin of a .pte: what the file says, without rounded activations."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("executorch")

from pocketlm.edge_build.reference import ReferenceModel
from pocketlm.models.config import ModelConfig
from pocketlm.runtime_py.engines.executorch.float_twin import write_float_twin
from pocketlm.runtime_py.engines.executorch.program_file import (
    delegate_payload,
    open_program,
    read_delegate,
)
from pocketlm.runtime_py.errors import RunError
from tests.artifacts import CONTEXT, Lowered, ends, logits_after, lowered_executorch, random_tokens
from tests.parity_cases import SPLITS

TOKENS = random_tokens(CONTEXT)
SPLIT = SPLITS["ones"]
# float32 sums in another order: 3e-6 seen, as with recipe none.
ORDER_OF_SUMS = 2e-5

RECIPES = [
    ("gemma3_text", "int4-g32"),
    ("gemma2", "int4-channel"),
    ("qwen3", "int8-channel"),
]


def twin_logits(built: Lowered, folder: Path, model: Path | None = None) -> NDArray[np.float32]:
    """Return the logits of the twin of an artifact, or of another file in its place."""
    write_float_twin(model or built.model_file, folder / "twin.pte")
    entry = replace(built.entry, model="twin.pte")
    return logits_after(built.load_entry(folder, entry), TOKENS, SPLIT)


def errors(found: NDArray[np.float32], built: Lowered, config: ModelConfig) -> NDArray[np.float32]:
    """Return each row's largest distance from the eager model without rounded activations."""
    attention = built.artifact.attention_quantization
    model = ReferenceModel(config, built.source.weights, "none", attention)
    expected = model.run(TOKENS).numpy()[ends(SPLIT)]
    return np.abs(found - expected).max(-1) / expected.std(-1)


@pytest.mark.parametrize(("family", "recipe"), RECIPES)
def test_a_twin_agrees_with_the_unrounded_model(family: str, recipe: str, tmp_path: Path) -> None:
    built = lowered_executorch(family, recipe)
    found = twin_logits(built, tmp_path)
    assert errors(found, built, built.source.config).max() < ORDER_OF_SUMS
    # The artifact itself is not that close, or nothing would be gained.
    rounded = logits_after(built.load(), TOKENS, SPLIT)
    assert errors(rounded, built, built.source.config).min() > 100 * ORDER_OF_SUMS


def test_a_twin_keeps_the_rounding_of_its_caches(tmp_path: Path) -> None:
    built = lowered_executorch("gemma3_text", "int4-g32", kv="int8")
    found = errors(twin_logits(built, tmp_path), built, built.source.config)
    # The same codes but where a value lies on a rounding edge.
    assert np.median(found) < ORDER_OF_SUMS
    assert found.max() < 0.01


def test_faults_that_rounding_hides_show_in_a_twin(tmp_path: Path) -> None:
    built = lowered_executorch("gemma3_text", "int4-g32")
    found = twin_logits(built, tmp_path)
    config = built.source.config
    first = config.layers[0]
    assert first.window is not None
    for changed in (
        replace(first, window=first.window - 1),
        replace(first, window=first.window + 1),
        replace(first, rope_theta=first.rope_theta * 1.01),
    ):
        layers = (changed, *config.layers[1:])
        assert errors(found, built, replace(config, layers=layers)).max() > 1e-3, changed


@pytest.mark.parametrize(("family", "recipe"), RECIPES)
def test_one_doubled_scale_shows_in_a_twin(family: str, recipe: str, tmp_path: Path) -> None:
    built = lowered_executorch(family, recipe)
    model = tmp_path / "model.pte"
    model.write_bytes(_with_a_doubled_scale(built.model_file))
    found = errors(twin_logits(built, tmp_path, model), built, built.source.config)
    assert found.max() > 1e-3


def _with_a_doubled_scale(file: Path) -> bytes:
    data = bytearray(file.read_bytes())
    with open_program(file) as opened:
        named = next(n for n in opened.program.named_data if n.key.startswith("scale_"))
        place = opened.program.segments[named.segment_index]
        start = opened.segments_start + place.offset
    # One more in the exponent; its lowest bit is bit 7 of the upper half in both formats.
    upper = start if _is_bfloat16(data[start : start + 4]) else start + 2
    number = int.from_bytes(data[upper : upper + 2], "little") + (1 << 7)
    data[upper : upper + 2] = number.to_bytes(2, "little")
    return bytes(data)


def _is_bfloat16(two_or_one: bytearray) -> bool:
    """Say whether four bytes are two scales; a float32 scale's lower half is zero."""
    return bool(two_or_one[0] or two_or_one[1])


def test_all_but_products_stays_byte_for_byte(tmp_path: Path) -> None:
    built = lowered_executorch("gemma3_text", "int4-g32")
    write_float_twin(built.model_file, tmp_path / "twin.pte")
    with open_program(built.model_file) as source, open_program(tmp_path / "twin.pte") as twin:
        unlike = {"segments": [], "named_data": []}
        assert replace(twin.program, **unlike) == replace(source.program, **unlike)
        constants = source.program.constant_segment.segment_index
        assert twin.read(constants) == source.read(constants)
        for delegate in source.program.execution_plan[0].delegates:
            before = read_delegate(source.read(delegate.processed.index))
            after = read_delegate(twin.read(delegate.processed.index))
            kinds = [node["xnode_union_type"] for node in after["xnodes"]]
            kept = [node["xnode_union_type"] for node in before["xnodes"]]
            assert kinds == [kind for kind in kept if kind != "XNNConvert"]
            assert after["input_ids"] == before["input_ids"]
            assert after["output_ids"] == before["output_ids"]


def test_a_delegate_is_written_as_it_was_read() -> None:
    with open_program(lowered_executorch("gemma2", "int4-channel").model_file) as opened:
        for delegate in opened.program.execution_plan[0].delegates:
            payload = opened.read(delegate.processed.index)
            assert delegate_payload(read_delegate(payload)) == payload


def test_writing_a_twin_tells_how_far_it_is(tmp_path: Path) -> None:
    built = lowered_executorch("qwen3", "int8-channel")
    told: list[tuple[int, int]] = []
    write_float_twin(
        built.model_file, tmp_path / "twin.pte", lambda done, total, _: told.append((done, total))
    )
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1] == told[0][1]


def test_a_disk_without_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = lowered_executorch("qwen3", "int8-channel")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(RunError, match=r"twin takes 0\.0 GB, .* has 0\.0 GB free; set TMPDIR"):
        write_float_twin(built.model_file, tmp_path / "twin.pte")


def test_what_is_no_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pte").write_bytes(b"no program" * 20)
    with pytest.raises(RunError, match=r"expected an ExecuTorch program with segments"):
        write_float_twin(tmp_path / "model.pte", tmp_path / "twin.pte")


def test_a_form_that_no_recipe_makes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = lowered_executorch("qwen3", "int8-channel")
    monkeypatch.setattr("pocketlm.runtime_py.engines.executorch.float_twin._CODE_BITS", {})
    with pytest.raises(RunError, match=r"has a weight as xnn_datatype_qcint8; expected XNNPACK's"):
        write_float_twin(built.model_file, tmp_path / "twin.pte")
    monkeypatch.setattr("pocketlm.runtime_py.engines.executorch.float_twin._LINEAR", "XNNConv2d")
    with pytest.raises(RunError, match=r"has XNNFullyConnected of a rounded input"):
        write_float_twin(built.model_file, tmp_path / "twin.pte")
