"""The calibration text, and the float model once over it: activations are measured."""

import math
from collections.abc import Callable, Container, Sequence
from pathlib import Path

import torch

from pocketlm.edge_build.calibration.float_weights import FloatWeights
from pocketlm.edge_build.calibration.generation import (
    GENERATED_LENGTH,
    GENERATED_SEQUENCES,
    generate,
)
from pocketlm.edge_build.calibration.measured import (
    INPUT_STATISTICS,
    CalibrationStore,
    Sequences,
    Statistic,
)
from pocketlm.edge_build.calibration.measuring import InputObserver, KvObserver
from pocketlm.edge_build.calibration.text import built_in_sequences
from pocketlm.edge_build.preparation import Preparation
from pocketlm.edge_build.progress import Advance
from pocketlm.edge_build.reference import OnInput, eager_decoder, reference_threads
from pocketlm.edge_build.reference_attention import KeepEverything, Packed
from pocketlm.edge_build.resident_memory import return_freed_memory
from pocketlm.edge_build.text_files import TextFiles
from pocketlm.models.checkpoint import Checkpoint


def calibrate(prepared: Preparation, folder: Path, advance: Advance) -> CalibrationStore:
    """Keep the calibration text in `folder`, and measure what of the float model is asked for.

    Raises:
        BuildError: a weight is not finite.
    """
    with reference_threads(prepared.parameters):
        sequences = _sequences(prepared, advance)
        statistics, weights = prepared.float_statistics
        store = CalibrationStore(folder, statistics)
        if statistics:
            tokens = sum(map(len, sequences))
            layers = prepared.checkpoint.config.num_layers

            def report_layer(layer: int) -> None:
                advance("calibrate", layer, layers, f"{tokens} tokens")

            report_layer(0)
            store = measure(
                prepared.checkpoint, sequences, statistics, folder, weights, report_layer
            )
    store.write_sequences(sequences)
    return store


def _sequences(prepared: Preparation, advance: Advance) -> Sequences:
    """Return the user's text, or the model's own where a method needs much."""
    if prepared.calibration:
        return prepared.calibration
    text, context_length = prepared.text, prepared.caches.context_length
    if not prepared.is_generating:
        return built_in_sequences(text, context_length)

    def report(done: int, total: int) -> None:
        advance("calibrate", done, total, f"tokens of {GENERATED_SEQUENCES} own texts")

    return own_sequences(prepared.checkpoint, text, context_length, report)


def own_sequences(
    checkpoint: Checkpoint,
    text: TextFiles,
    context_length: int,
    advance: Callable[[int, int], None],
) -> Sequences:
    """Return text that the float model samples.

    Args:
        advance: called with the tokens of each sequence that are there, and how many there will be.

    Raises:
        BuildError: a weight is not finite.
    """
    first = built_in_sequences(text, context_length)[0][0]
    length = min(GENERATED_LENGTH, context_length)
    return generate(checkpoint, first, text.tokenizer_size, length, advance)


@torch.no_grad()
def measure(
    checkpoint: Checkpoint,
    sequences: Sequences,
    statistics: Sequence[Statistic],
    folder: Path,
    weights: Container[str] | None = None,
    report_layer: Callable[[int], None] = lambda layer: None,
) -> CalibrationStore:
    """Read sequences once and keep statistics of the float model.

    Args:
        weights: whose inputs are measured; None is every linear layer's.
        report_layer: called with each layer that is done, counted from 1.
    """
    config, source = checkpoint.config, FloatWeights(checkpoint)
    store = CalibrationStore(folder, tuple(statistics))
    wanted = tuple(kind for kind in INPUT_STATISTICS if kind in store)
    inputs: dict[str, InputObserver] = {}

    def observe(name: str) -> tuple[OnInput | None, ...]:
        if not wanted or (weights is not None and name not in weights):
            return (None,)
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
    decoder = eager_decoder(config, source, observe)
    lengths = [len(tokens) for tokens in sequences]
    steps = [KeepEverything(config, None, torch.arange(n), (kv.rounding(),)) for n in lengths]
    packed = Packed(steps, lengths, write_layers)
    every = [token for tokens in sequences for token in tokens]
    hidden = decoder.hidden(torch.tensor([every]), packed)
    write_layers(config.num_layers)
    # The head multiplies this; its products themselves are not wanted.
    head = inputs.pop(source.head_name(), None)
    if head is not None:
        head(decoder.norm(hidden)[0])
        store.write_inputs(source.head_name(), head.result())
    if "kv_bounds" in store:
        store.write_kv_bounds(kv.result())
    return store


def _layer(name: str) -> float:
    """Return the number of a weight's layer; the head comes after all of them."""
    kind, _, rest = name.partition(".")
    return int(rest.partition(".")[0]) if kind == "layers" else math.inf
