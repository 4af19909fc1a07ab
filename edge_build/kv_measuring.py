"""Measures what int8 caches cost a quantized model, for each backend's way to keep them.

The eager model with the codes of the build is read once for each choice, next to the float model.
Activations stay whole in all of them: which of their roundings turn depends on every last bit, and
moves the KL divergence by as much as caches do, up or down (docs/kv-cache.md).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pocketlm.edge_build.backend import Backend
from pocketlm.edge_build.calibration.float_weights import FloatWeights
from pocketlm.edge_build.calibration.text import built_in_sequences
from pocketlm.edge_build.golden_rows import PIECE_ROWS
from pocketlm.edge_build.kv_rule import KV_TOKENS, choose_kv
from pocketlm.edge_build.kv_scales import KvScales
from pocketlm.edge_build.preparation import Preparation
from pocketlm.edge_build.progress import Advance
from pocketlm.edge_build.quantization.activations import Rounding, attention_rounding
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.edge_build.reference import ReferenceModel, eager_decoder, reference_threads
from pocketlm.edge_build.reference_attention import KeepEverything, Packed
from pocketlm.edge_build.resident_memory import return_freed_memory
from pocketlm.models.decoder import Decoder
from pocketlm.runtime_py.kv_choice import KvChoice, KvMeasured

# Of nats: what is recorded is what was compared.
_DIGITS = 7


@dataclass(frozen=True)
class KvMeasurements:
    """What each backend's choices were measured to cost, by its name; none that has one only."""

    tried: Mapping[str, tuple[KvMeasured, ...]]

    @property
    def chosen(self) -> Mapping[str, KvChoice]:
        """The choice of each backend."""
        return {name: KvChoice.named(choose_kv(tried)) for name, tried in self.tried.items()}


def measure_kv(
    prepared: Preparation, weights: WeightStore, kv_scales: KvScales | None, advance: Advance
) -> KvMeasurements:
    """Measure every choice that the backends of a build have.

    Args:
        kv_scales: constant scales, for backends that need them.

    Raises:
        BuildError: a weight is not finite.
    """
    ways = {
        backend.name: {choice: _way(prepared, backend, choice) for choice in choices}
        for backend in prepared.backends
        if len(choices := prepared.kv_choices(backend)) > 1
    }
    distinct = tuple(dict.fromkeys(way for found in ways.values() for way in found.values()))
    with reference_threads(prepared.parameters):
        kl_nats = _Divergences(prepared, weights, kv_scales, distinct, advance).measure()
    sizes = {
        (backend.name, choice): backend.stored(prepared.caches, choice).size_bytes
        for backend in prepared.backends
        for choice in ways.get(backend.name, {})
    }
    return KvMeasurements(
        {
            name: tuple(
                KvMeasured(choice.name, kl_nats[way], sizes[name, choice])
                for choice, way in found.items()
            )
            for name, found in ways.items()
        }
    )


def measured_tokens(prepared: Preparation) -> tuple[int, ...]:
    """Return the text: the beginning of the user's, or the built-in one."""
    context_length = prepared.caches.context_length
    sequences = prepared.calibration or built_in_sequences(prepared.text, context_length)
    return sequences[0][:KV_TOKENS]


def _way(prepared: Preparation, backend: Backend, choice: KvChoice) -> Rounding:
    plan = backend.stored(prepared.caches, choice)
    attention = backend.attention(prepared.checkpoint.config, plan)
    return Rounding.over(plan.layers, "none", attention)


class _Divergences:
    """The float model and the quantized one in every way, over one text."""

    def __init__(
        self,
        prepared: Preparation,
        weights: WeightStore,
        kv_scales: KvScales | None,
        ways: tuple[Rounding, ...],
        advance: Advance,
    ) -> None:
        self.config, self.ways, self.advance = prepared.checkpoint.config, ways, advance
        self.tokens = measured_tokens(prepared)
        source = FloatWeights(prepared.checkpoint)
        self.whole: Decoder = eager_decoder(self.config, source, lambda name: (None,))
        first, *others = ways
        assert first == Rounding(), "float32 caches come first"
        self.rounded = ReferenceModel(self.config, weights, "none", "none", kv_scales, also=others)
        self.steps = 2 * self.config.num_layers + len(self.tokens)

    @torch.no_grad()
    def measure(self) -> dict[Rounding, float]:
        """Return the mean KL divergence of each way, in nats."""
        expected, found = self._float_hidden(), self._rounded_hidden()
        total = torch.zeros(len(self.ways), dtype=torch.float64)
        for start in self._pieces():
            piece = slice(start, start + PIECE_ROWS)
            p = torch.log_softmax(self.whole.logits(expected[:, piece])[0], -1)  # [rows, V]
            logits = self.rounded.logits(found[:, piece])  # [ways, rows, V]
            # One after the other: each takes as much as the rows themselves.
            total += torch.stack([_divergence(p, one) for one in logits])
        means = (total / len(self.tokens)).clamp(min=0).tolist()
        return {way: round(mean, _DIGITS) for way, mean in zip(self.ways, means, strict=True)}

    def _pieces(self) -> Iterator[int]:
        for start in range(0, len(self.tokens), PIECE_ROWS):
            yield start
            done = min(start + PIECE_ROWS, len(self.tokens))
            self._tell(2 * self.config.num_layers + done, "predictions")

    def _float_hidden(self) -> Tensor:
        positions, unrounded = torch.arange(len(self.tokens)), attention_rounding("none", None)
        step = KeepEverything(self.config, None, positions, (unrounded,))
        packed = Packed([step], [len(self.tokens)], lambda layer: self._tell(layer, "float model"))
        hidden: Tensor = self.whole.hidden(torch.tensor([self.tokens]), packed)
        return hidden  # [1, T, E]

    def _rounded_hidden(self) -> Tensor:
        def tell(layer: int) -> None:
            self._tell(self.config.num_layers + layer, f"{len(self.ways)} ways to keep caches")

        (hidden,) = self.rounded.hidden([(self.tokens, range(len(self.tokens)))], tell)
        return hidden  # [ways, T, E]

    def _tell(self, done: int, what: str) -> None:
        # Pieces of each way lie between large ones; the heap would grow with each layer.
        return_freed_memory()
        self.advance("kv", done, self.steps, what)


def _divergence(p: Tensor, logits: Tensor) -> Tensor:
    """Return the sum of the divergences of rows; p are log probabilities, both [rows, V]."""
    q = torch.log_softmax(logits, -1)
    return (p.exp() * (p - q)).sum(dtype=torch.float64)
