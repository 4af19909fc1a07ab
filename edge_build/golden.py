"""Records golden answers from the eager quantized model: what every artifact has to say.

The reference keeps all keys and masks by position, so a ring that loses a key cannot agree.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from edge_build.backend import Artifact
from edge_build.golden_texts import MOMENT, SHORT_PROMPTS, TOKENIZER_TEXTS
from edge_build.kv_scales import KvScales
from edge_build.preparation import Preparation
from edge_build.progress import Advance
from edge_build.prompts import long_ids, open_tokenizer
from edge_build.quantization.weight import WeightStore
from edge_build.reference import LARGE_PARAMETERS, ReferenceModel, reference_threads
from runtime_py.golden import ChatCase, Golden, TokenizerCase
from runtime_py.golden_cases import GoldenCase
from runtime_py.logits_digest import greedy_margin, make_digest
from runtime_py.manifest import ActivationQuantization, AttentionQuantization
from runtime_py.memory_advice import huge_page_heap
from runtime_py.tokenizer import Tokenizer

# Two float32 runtimes differ by the order of their sums, 1e-6 of a row's spread; two runs that
# also round activations or caches differ by up to the sum of what each rounds away
# (docs/numerics.md).
_FLOAT_TOLERANCE = 1e-3
_ROUNDINGS = 2.0
_HEAP_BYTES = 1 << 30
_LARGE_GOLDEN_TOKENS = 8
_SMALL_GOLDEN_TOKENS = 64
_LONGEST_PROMPT = 2048
# The first rows are digested one by one, later ones at this stride; margins cover all.
_EVERY_DIGEST = 8


@dataclass(frozen=True)
class _Rounding:
    """What a runtime rounds; artifacts that round alike share their answers."""

    activations: ActivationQuantization
    attention: AttentionQuantization

    @classmethod
    def of(cls, artifact: Artifact) -> "_Rounding":
        return cls(artifact.activation_quantization, artifact.attention_quantization)

    def __str__(self) -> str:
        return ", ".join(dict.fromkeys((self.activations, self.attention)))


_NO_ROUNDING = _Rounding("none", "none")


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
    prompts = _prompts(prepared, tokenizer, chats)
    roundings = tuple(dict.fromkeys(_Rounding.of(a) for a in artifacts.values()))
    recorder = _Recorder(prepared, weights, kv_scales, prompts, advance)
    # A large model's activations are a hundred megabytes each: without a heap that keeps them, the
    # kernel hands out and clears every page of every one of them anew.
    large = prepared.parameters > LARGE_PARAMETERS
    heap = huge_page_heap(_HEAP_BYTES) if large else nullcontext()
    with reference_threads(prepared.parameters), heap:
        answers = recorder.record_all(roundings)
    (bundle / "golden").mkdir()
    paths = {}
    for name, artifact in artifacts.items():
        rounding = _Rounding.of(artifact)
        tolerance, cases = answers[rounding]
        golden = Golden(
            activation_quantization=rounding.activations,
            attention_quantization=rounding.attention,
            tolerance=tolerance,
            exact_tolerance=_FLOAT_TOLERANCE,
            stop_ids=prepared.text.stop_ids,
            tokenizer_cases=texts,
            chat_cases=chats,
            cases=cases,
            moment=MOMENT,
        )
        paths[name] = f"golden/{name}.json"
        (bundle / paths[name]).write_text(golden.to_json(), encoding="utf-8")
    return paths


def _prompts(
    prepared: Preparation, tokenizer: Tokenizer, chats: tuple[ChatCase, ...]
) -> dict[str, tuple[int, ...]]:
    """Choose what to continue: short texts, a chat, and one text that wraps every ring."""
    room = prepared.caches.context_length - _golden_tokens(prepared)
    prompts = {name: tuple(tokenizer.encode_prompt(text)) for name, text in SHORT_PROMPTS}
    if chats:
        prompts["chat"] = chats[0].ids
    if prepared.parameters > LARGE_PARAMETERS:
        prompts = dict(list(prompts.items())[:1])
    rings = [c.capacity for c in prepared.caches.layers if c.kind == "ring"]
    # Past the end of every ring. A large model's text includes what is fed after the prompt.
    large = prepared.parameters > LARGE_PARAMETERS
    beyond = _golden_tokens(prepared) if large else prepared.caches.chunk
    length = max(rings, default=0) + beyond + 7
    prompts["long"] = tuple(long_ids(tokenizer, min(length, room, _LONGEST_PROMPT)))
    return {name: ids[: max(1, room)] for name, ids in prompts.items()}


def _golden_tokens(prepared: Preparation) -> int:
    wanted = prepared.spec.golden_tokens
    if wanted is None:
        large = prepared.parameters > LARGE_PARAMETERS
        wanted = _LARGE_GOLDEN_TOKENS if large else _SMALL_GOLDEN_TOKENS
    return min(wanted, max(1, prepared.caches.context_length // 2))


class _Recorder:
    """Records every prompt in the eager model, once per way to round."""

    def __init__(
        self,
        prepared: Preparation,
        weights: WeightStore,
        kv_scales: KvScales | None,
        prompts: Mapping[str, tuple[int, ...]],
        advance: Advance,
    ) -> None:
        self.config, self.weights, self.prompts = prepared.checkpoint.config, weights, prompts
        self.kv_scales = kv_scales
        self.tokens = _golden_tokens(prepared)
        self.large = prepared.parameters > LARGE_PARAMETERS
        self.limit = prepared.text.tokenizer_size
        self.steps = self.done = 0
        self.advance = advance

    def record_all(
        self, roundings: tuple[_Rounding, ...]
    ) -> dict[_Rounding, tuple[float, tuple[GoldenCase, ...]]]:
        """Return tolerances, in standard deviations of a row, and cases."""
        self.steps, self.done = len(roundings) * len(self.prompts) * self.tokens, 0
        return {rounding: self._record(rounding) for rounding in roundings}

    def _record(self, rounding: _Rounding) -> tuple[float, tuple[GoldenCase, ...]]:
        model = ReferenceModel(
            self.config, self.weights, rounding.activations, rounding.attention, self.kv_scales
        )
        unrounded = ReferenceModel(self.config, self.weights, "none")
        noise = 0.0
        cases = []
        for name, prompt in self.prompts.items():
            if self.large:
                case, rows, exact = self._forced(model, name, prompt, rounding)
            else:
                case, rows = self._greedy(model, name, prompt, rounding)
                exact = rows
                if rounding != _NO_ROUNDING:
                    unrounded.reset()
                    exact = unrounded.run((*case.prompt_ids, *case.fed_ids), rows=len(rows))
            cases.append(case)
            noise = max(noise, _largest_change(rows, exact))
        tolerance = max(_FLOAT_TOLERANCE, _ROUNDINGS * noise)
        return float(f"{tolerance:.2g}"), tuple(cases)

    def _greedy(
        self, model: ReferenceModel, name: str, prompt: tuple[int, ...], rounding: _Rounding
    ) -> tuple[GoldenCase, Tensor]:
        """Return a case that feeds each greedy token back, and its rows [steps, V]."""
        model.reset()
        rows = [model.run(prompt, rows=1)[0]]
        while True:
            self._advance(name, rounding, 1)
            if len(rows) == self.tokens:
                return self._case(name, prompt, (), rows), torch.stack(rows)
            rows.append(model.run([self._choice(rows[-1])])[0])

    def _forced(
        self, model: ReferenceModel, name: str, text: tuple[int, ...], rounding: _Rounding
    ) -> tuple[GoldenCase, Tensor, Tensor]:
        """Return a case over the last tokens of a text, its rows [steps, V], and those unrounded.

        All rows come from one pass; feeding choices back would read a large model's weights, and
        dequantize them, once a token.
        """
        steps = min(self.tokens, len(text))
        if rounding == _NO_ROUNDING:
            model.reset()
            rows = exact = model.run(text, rows=steps)
        else:
            rows, exact = model.run_both(text, rows=steps)
        self._advance(name, rounding, self.tokens)
        split = len(text) - (steps - 1)
        return self._case(name, text[:split], text[split:], list(rows)), rows, exact

    def _advance(self, name: str, rounding: _Rounding, steps: int) -> None:
        self.done += steps
        self.advance("golden", self.done, self.steps, f"{name} ({rounding})")

    def _choice(self, row: Tensor) -> int:
        return int(row[: self.limit].argmax())

    def _case(
        self, name: str, prompt: tuple[int, ...], forced: tuple[int, ...], rows: list[Tensor]
    ) -> GoldenCase:
        first = len(prompt) - 1
        return GoldenCase(
            name=name,
            prompt_ids=prompt,
            continuation_ids=tuple(map(self._choice, rows)),
            margins=tuple(greedy_margin(row.numpy(), self.limit) for row in rows),
            logits=tuple(
                make_digest(row.numpy(), first + i)
                for i, row in enumerate(rows)
                if i < _EVERY_DIGEST or i % _EVERY_DIGEST == 0
            ),
            forced_ids=forced,
        )


def _largest_change(rounded: Tensor, exact: Tensor) -> float:
    """Return the largest change of a logit by rounding, in units of its row's std."""
    return float(((rounded - exact).abs().amax(-1) / exact.std(-1)).max())
