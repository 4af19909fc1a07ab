"""Each weight is quantized for the inputs that the layers before it, quantized already, give it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pocketlm.edge_build.calibration.measured import CalibrationStore, InputStatistics
from pocketlm.edge_build.progress import silent
from pocketlm.edge_build.quantization import apply, layer_by_layer, methods, recipes
from pocketlm.edge_build.quantization.apply import Calibrated, QuantizedModel, quantize_weights
from pocketlm.edge_build.quantization.methods import Method, Quantize, round_to_nearest
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.edge_build.quantization.rules import choose_rules
from pocketlm.edge_build.reference import ReferenceModel
from pocketlm.models.checkpoint import load_decoder, open_checkpoint
from pocketlm.runtime_py.manifest import ActivationQuantization
from tests.conftest import TINY_PUBLISHED

SEQUENCES = ((2, *range(40, 60)), (2, *range(300, 311)))


class Recording:
    """A method that rounds to nearest and keeps the statistics that it was given, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: list[InputStatistics] = []
        method = Method(self.prepare, ("maxima", "moments", "cross_moments"))
        monkeypatch.setattr(methods, "load", lambda name: method)

    def prepare(self, scheme: QuantScheme, inputs: InputStatistics) -> Quantize:
        self.given.append(inputs)
        return round_to_nearest.prepare(scheme, inputs)


def quantized(
    source: Path,
    folder: Path,
    activations: ActivationQuantization = "none",
    method: str = "round_to_nearest",
    key: str | None = None,
) -> QuantizedModel:
    checkpoint = open_checkpoint(source)
    folder.mkdir(exist_ok=True)
    store = CalibrationStore(folder, ())
    store.write_sequences(SEQUENCES)
    rules = choose_rules(checkpoint.shapes, recipes.load("int4-g32").with_method(method))
    calibrated = Calibrated(store, activations)
    return quantize_weights(checkpoint, rules, folder, silent, calibrated, key)


def inputs_of(decoder: torch.nn.Module, run: Callable[[], object]) -> dict[str, torch.Tensor]:
    """Return the inputs [T, in] of each linear layer, in the order in which they are called."""
    seen: dict[str, torch.Tensor] = {}
    handles = [
        module.register_forward_pre_hook(
            lambda _, args, name=name: seen.__setitem__(name, args[0][0])
        )
        for name, module in decoder.named_modules()
        if name.endswith("_proj")
    ]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("activations", ["none", "per_token_asymmetric", "per_block_symmetric"])
@pytest.mark.parametrize("family", sorted(TINY_PUBLISHED))
def test_statistics_are_those_of_the_quantized_model_and_of_the_float_model_beside_it(
    family: str,
    activations: ActivationQuantization,
    tiny_checkpoint: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = tiny_checkpoint(family)
    recording = Recording(monkeypatch)
    # Of 33 tokens, the last piece has five.
    monkeypatch.setattr(layer_by_layer, "PIECE_TOKENS", 7)
    model = quantized(source, tmp_path / "store", activations)
    config = open_checkpoint(source).config
    decoder = load_decoder(open_checkpoint(source))
    expected: dict[str, Any] = {}
    for tokens in SEQUENCES:
        reference = ReferenceModel(config, model.weights, activations)
        ours = inputs_of(reference.decoder, partial(reference.run, tokens))
        floats = inputs_of(decoder, partial(decoder, torch.tensor([tokens])))
        for name, x in ours.items():
            maxima, moments, cross = expected.get(name, (0, 0, 0))
            found = x.abs().amax(0)
            expected[name] = (
                torch.maximum(found, torch.as_tensor(maxima)),
                moments + x.T @ x,
                cross + floats[name].T @ x,
            )
    # The table comes first, before there are inputs; an untied head comes last.
    given = recording.given[1 : 1 + len(expected)]
    assert len(recording.given) == len(expected) + (1 if config.tie_word_embeddings else 2)
    assert recording.given[0] == InputStatistics()
    for inputs, wanted in zip(given, expected.values(), strict=True):
        for one, other in zip(
            (inputs.maxima, inputs.moments, inputs.cross_moments), wanted, strict=True
        ):
            # Products in another order, whose last bit rounding may turn into a step of int8.
            scale = float(other.abs().max())
            np.testing.assert_allclose(one, other, rtol=0, atol=2e-3 * scale)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Stopping:
    """Raises when a number of weights are quantized, and counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done, self.stop = 0, 10**6
        store = apply._store_quantized

        def counted(*arguments: Any) -> Any:
            if self.done == self.stop:
                raise KeyboardInterrupt
            self.done += 1
            return store(*arguments)

        monkeypatch.setattr(apply, "_store_quantized", counted)


@pytest.mark.parametrize("stop", [0, 1, 9, 14])
def test_a_run_goes_on_where_another_was_interrupted(
    stop: int, tiny_checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: Any
) -> None:
    source = tiny_checkpoint("gemma3_text")
    quantized(source, tmp_path / "whole", method="gptq", key="k")
    stopping = Stopping(monkeypatch)
    stopping.stop = stop
    with pytest.raises(KeyboardInterrupt):
        quantized(source, tmp_path / "parts", method="gptq", key="k")
    stopping.stop = 10**6
    model = quantized(source, tmp_path / "parts", method="gptq", key="k")
    assert stopping.done == sum(entry.bits == 4 for entry in model.tensors)
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


def test_a_weight_that_was_damaged_is_quantized_again(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, folder = tiny_checkpoint("qwen3"), tmp_path / "store"
    quantized(source, folder, method="gptq", key="k")
    whole = files_of(folder)
    (folder / "layers.0.mlp.up_proj.codes.npy").write_bytes(b"codes")
    (folder / "layers.1.mlp.up_proj.scales.npy").unlink()
    (folder / "layers.1.mlp.gate_proj.quantized.json").write_text("{")
    stopping = Stopping(monkeypatch)
    quantized(source, folder, method="gptq", key="k")
    assert stopping.done == 3
    assert files_of(folder) == whole
