"""The float model once over a text, layer by layer: weights stream, activations are measured."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from pocketlm.edge_build.calibration.float_weights import FloatWeights
from pocketlm.edge_build.calibration.measured import INPUT_STATISTICS, CalibrationStore, Statistic
from pocketlm.edge_build.calibration.measuring import InputObserver, KvObserver
from pocketlm.edge_build.calibration.text import built_in_sequences
from pocketlm.edge_build.preparation import Preparation
from pocketlm.edge_build.progress import Advance
from pocketlm.edge_build.reference import eager_decoder, reference_threads
from pocketlm.edge_build.reference_attention import KeepEverything, Packed
from pocketlm.edge_build.resident_memory import return_freed_memory
from pocketlm.models.checkpoint import Checkpoint


def calibrate(prepared: Preparation, folder: Path, advance: Advance) -> CalibrationStore:
    """Measure what the build asks for, on its calibration text, and keep it in `folder`.

    Raises:
        BuildError: a weight is not finite.
    """
    sequences = prepared.calibration or built_in_sequences(
        prepared.text, prepared.caches.context_length
    )
    tokens = sum(map(len, sequences))
    layers = prepared.checkpoint.config.num_layers

    def report_layer(layer: int) -> None:
        advance("calibrate", layer, layers, f"{tokens} tokens")

    report_layer(0)
    with reference_threads(prepared.parameters):
        return measure(prepared.checkpoint, sequences, prepared.statistics, folder, report_layer)


@torch.no_grad()
def measure(
    checkpoint: Checkpoint,
    sequences: Sequence[Sequence[int]],
    statistics: Sequence[Statistic],
    folder: Path,
    report_layer: Callable[[int], None] = lambda layer: None,
) -> CalibrationStore:
    """Read sequences once and keep the statistics of each linear layer's inputs, keys and values.

    Args:
        report_layer: called with each layer that is done, counted from 1.
    """
    config, weights = checkpoint.config, FloatWeights(checkpoint)
    store = CalibrationStore(folder, tuple(statistics))
    wanted = tuple(kind for kind in INPUT_STATISTICS if kind in store)
    inputs: dict[str, InputObserver] = {}

    def observe(name: str) -> tuple[InputObserver, ...]:
        inputs[name] = InputObserver(wanted)
        return (inputs[name],)

    def write_layers(done: int) -> None:
        # At once, because second moments of all layers together would be gigabytes.
        for name in [name for name in inputs if _layer(name) < done]:
            store.write_inputs(name, inputs.pop(name).result())
        # Pieces of many sequences lie between large ones; the heap would grow with each layer.
        return_freed_memory()
        report_layer(done)

    kv = KvObserver(config)
    decoder = eager_decoder(config, weights, observe)
    lengths = [len(tokens) for tokens in sequences]
    steps = [KeepEverything(config, None, torch.arange(n), (kv.rounding(),)) for n in lengths]
    packed = Packed(steps, lengths, write_layers)
    every = [token for tokens in sequences for token in tokens]
    hidden = decoder.hidden(torch.tensor([every]), packed)
    write_layers(config.num_layers)
    # The head multiplies this; its products themselves are not wanted.
    head = inputs[weights.head_name()]
    head(decoder.norm(hidden)[0])
    store.write_inputs(weights.head_name(), head.result())
    if "kv_bounds" in store:
        store.write_kv_bounds(kv.result())
    return store


def _layer(name: str) -> float:
    """Return the number of a weight's layer; the head comes after all of them."""
    kind, _, rest = name.partition(".")
    return int(rest.partition(".")[0]) if kind == "layers" else math.inf
