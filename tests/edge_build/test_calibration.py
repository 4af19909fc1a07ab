"""Statistics of activations against transformers, and what is made of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketlm.edge_build.calibration.measured import CalibrationStore, KvBounds
from pocketlm.edge_build.calibration.measuring import InputObserver, KvObserver
from pocketlm.edge_build.calibration.running import calibrate, measure
from pocketlm.edge_build.calibration.text import built_in_sequences
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.kv_scales import HEADROOM, LARGEST_CODE, KvScales, scales_of
from pocketlm.edge_build.preparation import Preparation, prepare
from pocketlm.edge_build.progress import silent
from pocketlm.edge_build.quantization import methods, recipes
from pocketlm.edge_build.quantization.apply import Calibrated, quantize_weights
from pocketlm.edge_build.quantization.rules import choose_rules
from pocketlm.edge_build.reference import ReferenceModel
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.models.checkpoint import load_decoder, open_checkpoint
from pocketlm.models.config import ModelConfig
from pocketlm.models.layers import inverse_frequencies, rotary_tables, rotate
from tests.conftest import PICO, TINY_PUBLISHED
from tests.small_layers import SMALL_LAYER

SHARED, SIZE = 2, 16
Layer = tuple[torch.Tensor, torch.Tensor]


def layers(seed: int) -> list[Layer]:
    generator = torch.Generator().manual_seed(seed)
    shape = (1, 9, SHARED, SIZE)
    pairs = [torch.randn(*shape, generator=generator) for _ in range(4)]
    return [(pairs[0], pairs[1]), (pairs[2], pairs[3])]


def bounds(seen: list[Layer]) -> KvBounds:
    layers = (replace(SMALL_LAYER, num_key_value_heads=SHARED, head_dim=SIZE),) * len(seen)
    observer = KvObserver(ModelConfig("test", 8, 8, layers, 1e-6, 64, 0.25, "silu"))
    for cache, (key, value) in enumerate(seen):
        for part in (slice(4), slice(4, None)):
            observer.rounding().key_value(cache, key[:, part], value[:, part])
    return observer.result()


@given(st.integers(0, 100_000), st.integers(0, 20))
def test_a_key_stays_within_its_scale_wherever_it_is_rotated_to(position: int, seed: int) -> None:
    seen = layers(seed)
    scales = scales_of(bounds(seen))
    frequencies = 10_000.0 ** -(torch.arange(SIZE // 2) / (SIZE // 2))
    tables = rotary_tables(torch.tensor([position]), frequencies)
    for layer, (key, _) in enumerate(seen):
        codes = rotate(key, *tables) / torch.from_numpy(scales.keys[layer])
        assert float(codes.abs().max()) <= LARGEST_CODE / HEADROOM * (1 + 1e-5)


def test_the_largest_value_of_each_channel_sets_its_scale() -> None:
    seen = layers(3)
    scales = scales_of(bounds(seen))
    assert {scale.shape for scale in (*scales.keys, *scales.values)} == {(SHARED, SIZE)}
    assert len(scales.keys) == len(scales.values) == 2
    for layer, (_, value) in enumerate(seen):
        expected = HEADROOM / LARGEST_CODE * value.abs().amax(dim=(0, 1)).numpy()
        np.testing.assert_allclose(scales.values[layer], expected, rtol=1e-6)


def test_a_channel_that_is_always_zero_still_has_a_scale() -> None:
    zeros = torch.zeros(1, 9, SHARED, SIZE)
    scales = scales_of(bounds([(zeros, zeros)]))
    assert (scales.keys[0] > 0).all() and np.isfinite(1 / scales.values[0]).all()


def test_scales_that_cannot_be_are_refused() -> None:
    good = np.ones((SHARED, SIZE), np.float32)
    for bad in (np.zeros_like(good), np.full_like(good, np.nan), good[0]):
        with pytest.raises(AssertionError):
            KvScales((good,), (bad,))


@pytest.mark.parametrize("family", sorted(TINY_PUBLISHED))
def test_statistics_are_those_of_the_float_model(
    family: str, tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint(family))
    config, decoder = checkpoint.config, load_decoder(checkpoint)
    seen: dict[str, torch.Tensor] = {}
    for name, module in decoder.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(
                lambda _, args, name=name: seen.__setitem__(name, args[0][0])
            )
    tokens = [2, *range(40, 60)]
    keys = [layer.attention.k_norm or torch.nn.Identity() for layer in decoder.layers]
    with torch.no_grad():
        decoder(torch.tensor([tokens]))
    store = measure(checkpoint, [tokens], ("maxima", "moments", "kv_bounds"), tmp_path)
    head = "embed_tokens" if config.tie_word_embeddings else "lm_head"
    for name, x in seen.items():
        inputs = store.inputs(head if name == "lm_head" else name)
        assert inputs.maxima is not None and inputs.moments is not None
        # Products in another order.
        np.testing.assert_allclose(inputs.maxima, x.abs().amax(0), rtol=1e-4, atol=1e-5)
        scale = float((x.T @ x).abs().max())
        np.testing.assert_allclose(inputs.moments, x.T @ x, rtol=0, atol=1e-4 * scale)
    kv = store.kv_bounds()
    for index, norm in enumerate(keys):
        attention = decoder.layers[index].attention
        assert isinstance(attention.k_proj, torch.nn.Linear)
        x = seen[f"layers.{index}.attention.k_proj"]
        with torch.no_grad():
            key = norm(attention.k_proj(x).unflatten(-1, (-1, attention.head_dim)))
            value = attention.v_proj(x).unflatten(-1, (-1, attention.head_dim))
        frequencies = inverse_frequencies(config.layers[index].rotary)
        turned = rotate(key[None], *rotary_tables(torch.arange(len(tokens)), frequencies))[0]
        assert (turned.abs().amax(0).numpy() <= kv.keys[index] * (1 + 1e-5)).all()
        np.testing.assert_allclose(kv.values[index], value.abs().amax(0), rtol=1e-4, atol=1e-5)


@pytest.fixture
def prepared(tmp_path: Path) -> Preparation:
    spec = BuildSpec(
        PICO,
        tmp_path / "out",
        backends=("onnx",),
        recipe="int4-g32",
        kv="int8",
        context_length=64,
    )
    return prepare(spec)


def test_calibration_reads_a_chat_and_a_short_context_bounds_it(
    prepared: Preparation, tmp_path: Path
) -> None:
    (ids,) = built_in_sequences(prepared.text, prepared.caches.context_length)
    assert ids[0] == prepared.text.bos_id and len(ids) == 64
    steps: list[tuple[str, int, int, str]] = []
    store = calibrate(prepared, tmp_path, lambda *step: steps.append(step))
    count = prepared.checkpoint.config.num_layers
    assert steps[0] == ("calibrate", 0, count, "64 tokens")
    assert steps[-1] == ("calibrate", count, count, "64 tokens")
    assert len(scales_of(store.kv_bounds()).keys) == count
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["tokens.json"]
        + [f"cache.{cache}.{kind}.npy" for cache in range(count) for kind in ("keys", "values")]
    )


@pytest.mark.parametrize(
    ("backends", "kv", "wanted"),
    [
        (("onnx",), "int8", ("kv_bounds",)),
        (("executorch",), "int8", ()),
        (("executorch", "onnx"), "int8", ("kv_bounds",)),
        (("onnx",), "float32", ()),
    ],
)
def test_nothing_is_calibrated_unless_somebody_asks(
    prepared: Preparation, backends: tuple[str, ...], kv: str, wanted: tuple[str, ...]
) -> None:
    spec = replace(prepared.spec, backends=backends, kv=kv)  # type: ignore[arg-type]
    asked = prepare(spec)
    assert asked.float_statistics == (wanted, ())
    assert ("calibrate" in asked.stage_names) == bool(wanted)


def test_a_tied_table_alone_is_calibrated_on_the_built_in_text(
    prepared: Preparation, tiny_checkpoint: Callable[[str], Path]
) -> None:
    asked = prepare(replace(prepared.spec, recipe="int8-head4", kv="float32"))
    assert asked.weights_with_text == ("embed_tokens",)
    assert asked.float_statistics == (("moments",), ("embed_tokens",))
    assert not asked.is_generating and asked.stage_names[0] == "calibrate"
    assert asked.method_statistics == ()
    every = prepare(replace(asked.spec, method="gptq"))
    assert every.is_generating
    # A table that is only looked up has no inputs.
    untied = prepare(replace(asked.spec, checkpoint=tiny_checkpoint("qwen3"), context_length=32))
    assert "lm_head" in untied.rules
    assert untied.weights_with_text == () and "calibrate" not in untied.stage_names


TEXT = PICO / "README.md"
TOY_METHOD = """
import torch

from pocketlm.edge_build.quantization.methods import Method


def prepare(scheme, inputs):
    scale = float(inputs.maxima.max()) * 2.0**-6

    def quantize(weight):
        codes = torch.full(weight.shape, 3, dtype=torch.int8)
        scales = torch.full((len(weight), scheme.groups(weight.shape[1])), scale)
        return codes, scales.bfloat16().float()

    return quantize


METHOD = Method(prepare, statistics=("maxima",))
"""
TOY_RECIPE = """
[[rules]]
pattern = "layers.*.mlp.*"
bits = 4
group_size = 32
method = "toy"

[[rules]]
pattern = "*"
bits = 8
"""


def test_a_calibrated_method_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "toy.py").write_text(TOY_METHOD)
    (tmp_path / "recipe.toml").write_text(TOY_RECIPE)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path / "methods")])
    checkpoint = open_checkpoint(PICO)
    spec = BuildSpec(
        PICO,
        tmp_path / "out",
        backends=("onnx",),
        recipe=str(tmp_path / "recipe.toml"),
        calibration_text=TEXT,
    )
    prepared = prepare(spec)
    assert prepared.stage_names == ("calibrate", "quantize", "onnx", "golden")
    for name in ("calibrate", "quantize"):
        (tmp_path / name).mkdir()
    calibration = calibrate(prepared, tmp_path / "calibrate", silent)
    weights = quantize_weights(
        checkpoint, prepared.rules, tmp_path / "quantize", silent, Calibrated(calibration)
    ).weights
    (rows,) = np.unique(weights.rows("layers.1.mlp.down_proj", 0, 4)).tolist()
    (others,) = np.unique(weights.rows("layers.1.mlp.up_proj", 0, 4)).tolist()
    # Three times a scale that its own inputs gave.
    assert rows > 0 and others > 0 and rows != others
    assert weights.schemes["norm"] is None
    assert weights.schemes["layers.1.attention.q_proj"] != weights.schemes["layers.1.mlp.up_proj"]


def test_a_weight_that_is_not_finite_is_refused_before_anything_is_measured(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint("qwen3"))
    read = type(checkpoint).read_rows

    def damaged(self: object, name: str, start: int, stop: int) -> torch.Tensor:
        rows = read(checkpoint, name, start, stop)
        return rows.fill_(float("nan")) if name == "layers.1.mlp.up_proj" else rows

    monkeypatch.setattr(type(checkpoint), "read_rows", damaged)
    with pytest.raises(BuildError, match=r"layers\.1\.mlp\.up_proj: the checkpoint holds NaN"):
        measure(checkpoint, [[2, 5]], ("maxima",), tmp_path)


def test_a_store_gives_what_was_asked_for_alone(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path, ("kv_bounds",))
    assert "maxima" not in store
    assert store.inputs("norm").maxima is None


def test_the_head_alone_is_measured_where_it_is_the_table(tmp_path: Path) -> None:
    spec = BuildSpec(PICO, tmp_path / "out", method="gptq", calibration_text=TEXT)
    prepared = prepare(spec)
    assert prepared.float_statistics == (("moments",), ("embed_tokens",))
    assert prepared.method_statistics == ("cross_moments", "moments")
    store = calibrate(prepared, tmp_path, silent)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["embed_tokens.moments.npy", "tokens.json"]
    assert store.sequences == prepared.calibration
    assert store.inputs("embed_tokens").moments is not None


def test_sequences_do_not_see_each_other(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint("gemma3_text"))
    texts = [[2, *range(40, 60)], [2, *range(300, 311)]]
    moments = []
    for name, sequences in (("both", texts), ("first", texts[:1]), ("second", texts[1:])):
        (tmp_path / name).mkdir()
        store = measure(checkpoint, sequences, ("moments",), tmp_path / name)
        found = store.inputs("layers.2.mlp.down_proj").moments
        assert found is not None
        moments.append(np.array(found))
    # Products in another order.
    scale = np.abs(moments[0]).max()
    np.testing.assert_allclose(moments[0], moments[1] + moments[2], rtol=0, atol=1e-5 * scale)


def test_the_manifest_names_the_method_of_each_rule(tmp_path: Path) -> None:
    prepared = prepare(BuildSpec(PICO, tmp_path / "out", method="gptq", calibration_text=TEXT))
    rules = recipes.recorded(prepared.recipe)
    assert {rule.method for rule in rules} == {"gptq"}
    assert recipes.of_record("x", rules).rules == prepared.recipe.rules


def test_second_moments_of_finished_layers_are_given_back(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint("gemma3_text"))
    made: list[InputObserver] = []
    make = InputObserver.__init__

    def watched(self: InputObserver, *arguments: Any) -> None:
        made.append(self)
        make(self, *arguments)

    monkeypatch.setattr(InputObserver, "__init__", watched)
    held: list[int] = []

    def count(layer: int) -> None:
        held.append(sum(observer.moments is not None for observer in made))

    measure(checkpoint, [[2, 5, 7]], ("moments",), tmp_path, report_layer=count)
    # Told within a layer, when queries, keys and values have been multiplied.
    assert len(made) > 20 and max(held) <= 3


@pytest.mark.parametrize("family", sorted(TINY_PUBLISHED))
def test_gptq_brings_every_family_closer_to_its_float_model(
    family: str, tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint(family))
    generator = np.random.default_rng(5)
    calibrated, asked = (generator.integers(5, 500, (n, 60)).tolist() for n in (64, 1))
    store = CalibrationStore(tmp_path, ())
    store.write_sequences(tuple(map(tuple, calibrated)))
    with torch.no_grad():
        expected = load_decoder(checkpoint)(torch.tensor(asked))[0]
    errors = {}
    for method in ("gptq", "round_to_nearest"):
        (tmp_path / method).mkdir()
        rules = choose_rules(checkpoint.shapes, recipes.load("int4-g32").with_method(method))
        weights = quantize_weights(
            checkpoint, rules, tmp_path / method, silent, Calibrated(store)
        ).weights
        found = ReferenceModel(checkpoint.config, weights, "none").run(asked[0])
        errors[method] = float((found - expected).norm())
    # 0.90 for each when this was written.
    assert errors["gptq"] < 0.95 * errors["round_to_nearest"]
