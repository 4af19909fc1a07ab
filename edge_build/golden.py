"""Records golden answers from the eager quantized model: what every artifact has to say.

The reference keeps all keys and masks by position, so a ring that loses a key cannot agree.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import tokenizers
import torch

from edge_build.backend import Artifact
from edge_build.golden_texts import CHATS, LONG_TEXT, SHORT_PROMPTS, SYSTEM_CHAT, TOKENIZER_TEXTS
from edge_build.preparation import Preparation
from edge_build.progress import Advance
from edge_build.quantization.weight import WeightStore
from edge_build.reference import ReferenceModel
from runtime_py.chat_template import ChatTemplate
from runtime_py.errors import RunError
from runtime_py.golden import (
    ChatCase,
    Golden,
    GoldenCase,
    TokenizerCase,
    greedy_margin,
    make_digest,
)
from runtime_py.manifest import ActivationQuantization
from runtime_py.tokenizer import Tokenizer

# Two float32 runtimes differ by the order of their sums, 1e-6 of a row's spread; two runs that
# also round activations differ by up to the sum of what each rounds away (docs/numerics.md).
_FLOAT_TOLERANCE = 1e-3
_ROUNDINGS = 2.0
# Above this many parameters the eager model takes seconds a token: fewer cases, fewer tokens.
_LARGE_PARAMETERS = 200_000_000
_LARGE_GOLDEN_TOKENS = 8
_SMALL_GOLDEN_TOKENS = 64
_LONGEST_PROMPT = 2048
# The first rows are digested one by one, later ones at this stride; margins cover all.
_EVERY_DIGEST = 8


def record_golden(
    prepared: Preparation,
    weights: WeightStore,
    artifacts: Mapping[str, Artifact],
    bundle: Path,
    advance: Advance,
) -> dict[str, str]:
    """Write golden/BACKEND.json for each artifact.

    Returns:
        Backend name → path of its file, relative to the bundle.
    """
    tokenizer = _tokenizer(prepared)
    chats = _chat_cases(prepared, tokenizer)
    texts = tuple(TokenizerCase(text, tuple(tokenizer.encode(text))) for text in TOKENIZER_TEXTS)
    prompts = _prompts(prepared, tokenizer, chats)
    kinds = tuple(dict.fromkeys(a.activation_quantization for a in artifacts.values()))
    recorder = _Recorder(prepared, weights, prompts, len(kinds), advance)
    with _threads_for(prepared):
        answers = {kind: recorder.record(kind) for kind in kinds}
    (bundle / "golden").mkdir()
    paths = {}
    for name, artifact in artifacts.items():
        kind = artifact.activation_quantization
        tolerance, cases = answers[kind]
        golden = Golden(
            activation_quantization=kind,
            tolerance=tolerance,
            stop_ids=prepared.text.stop_ids,
            tokenizer_cases=texts,
            chat_cases=chats,
            cases=cases,
        )
        paths[name] = f"golden/{name}.json"
        (bundle / paths[name]).write_text(golden.to_json(), encoding="utf-8")
    return paths


@contextmanager
def _threads_for(prepared: Preparation) -> Iterator[None]:
    """Run a small model on one thread: its products are too short to share."""
    threads = torch.get_num_threads()
    try:
        if prepared.parameters <= _LARGE_PARAMETERS:
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)


def _tokenizer(prepared: Preparation) -> Tokenizer:
    path = prepared.text.folder / "tokenizer.json"
    return Tokenizer(tokenizers.Tokenizer.from_file(str(path)), prepared.text.bos_id)


def _chat_cases(prepared: Preparation, tokenizer: Tokenizer) -> tuple[ChatCase, ...]:
    """Render every chat that the template accepts; some accept no system turn."""
    source = prepared.text.chat_template
    if source is None:
        return ()
    template = ChatTemplate(source, prepared.text.special_tokens)
    switches: tuple[dict[str, object], ...] = ({},)
    if "enable_thinking" in source:
        switches = ({}, {"enable_thinking": False})
    cases = []
    for turns in (*CHATS, SYSTEM_CHAT):
        messages = tuple({"role": role, "content": content} for role, content in turns)
        for variables in switches:
            try:
                rendered = template.render(messages, variables)
            except RunError:
                if turns is not SYSTEM_CHAT:
                    raise
                continue
            cases.append(ChatCase(messages, variables, rendered, tuple(tokenizer.encode(rendered))))
    return tuple(cases)


def _prompts(
    prepared: Preparation, tokenizer: Tokenizer, chats: tuple[ChatCase, ...]
) -> dict[str, tuple[int, ...]]:
    """Choose what to continue: short texts, a chat, and one text that wraps every ring."""
    room = prepared.caches.context_length - _golden_tokens(prepared)
    prompts = {name: tuple(tokenizer.encode_prompt(text)) for name, text in SHORT_PROMPTS}
    if chats:
        prompts["chat"] = chats[0].ids
    if prepared.parameters > _LARGE_PARAMETERS:
        prompts = dict(list(prompts.items())[:1])
    rings = [c.capacity for c in prepared.caches.layers if c.kind == "ring"]
    length = max(rings, default=0) + prepared.caches.chunk + 7
    prompts["long"] = tuple(_long_ids(tokenizer, min(length, room, _LONGEST_PROMPT)))
    return {name: ids[: max(1, room)] for name, ids in prompts.items()}


def _long_ids(tokenizer: Tokenizer, length: int) -> list[int]:
    text = LONG_TEXT
    while len(ids := tokenizer.encode_prompt(text)) < length:
        text = f"{text}\n{len(text)}. {LONG_TEXT}"
    return ids[:length]


def _golden_tokens(prepared: Preparation) -> int:
    wanted = prepared.spec.golden_tokens
    if wanted is None:
        large = prepared.parameters > _LARGE_PARAMETERS
        wanted = _LARGE_GOLDEN_TOKENS if large else _SMALL_GOLDEN_TOKENS
    return min(wanted, max(1, prepared.caches.context_length // 2))


class _Recorder:
    """Continues every prompt in the eager model, once per kind of activation rounding."""

    def __init__(
        self,
        prepared: Preparation,
        weights: WeightStore,
        prompts: Mapping[str, tuple[int, ...]],
        kinds: int,
        advance: Advance,
    ) -> None:
        self.config, self.weights, self.prompts = prepared.checkpoint.config, weights, prompts
        self.tokens = _golden_tokens(prepared)
        self.limit = prepared.text.tokenizer_size
        self.steps, self.done = kinds * len(prompts) * self.tokens, 0
        self.advance = advance

    def record(self, kind: ActivationQuantization) -> tuple[float, tuple[GoldenCase, ...]]:
        """Return the tolerance, in standard deviations of a row, and the cases."""
        model = ReferenceModel(self.config, self.weights, kind)
        unrounded = ReferenceModel(self.config, self.weights, "none")
        noise = 0.0
        cases = []
        for name, prompt in self.prompts.items():
            steps = []
            for step in _greedy(model, prompt, self.tokens, self.limit):
                steps.append(step)
                self.done += 1
                self.advance("golden", self.done, self.steps, f"{name} ({kind})")
            cases.append(_case(name, prompt, steps, self.limit))
            if kind != "none":
                noise = max(noise, _rounding_noise(unrounded, prompt, steps))
        tolerance = max(_FLOAT_TOLERANCE, _ROUNDINGS * noise)
        return float(f"{tolerance:.2g}"), tuple(cases)


def _rounding_noise(
    unrounded: ReferenceModel, prompt: tuple[int, ...], steps: list[tuple[int, torch.Tensor]]
) -> float:
    """Return the largest change of a logit by rounding activations, in units of its row's std."""
    unrounded.reset()
    tokens = (*prompt, *(token for token, _ in steps[:-1]))
    exact = unrounded.run(tokens, rows=len(steps))
    rounded = torch.stack([row for _, row in steps])
    return float(((rounded - exact).abs().amax(-1) / exact.std(-1)).max())


def _greedy(
    model: ReferenceModel, prompt: tuple[int, ...], tokens: int, limit: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield each greedy token below `limit`, and the row of logits [V] that it was chosen from."""
    model.reset()
    row = model.run(prompt, rows=1)[0]
    for i in range(tokens):
        token = int(row[:limit].argmax())
        yield token, row
        if i + 1 < tokens:
            row = model.run([token])[0]


def _case(
    name: str, prompt: tuple[int, ...], steps: list[tuple[int, torch.Tensor]], limit: int
) -> GoldenCase:
    first = len(prompt) - 1
    return GoldenCase(
        name=name,
        prompt_ids=prompt,
        continuation_ids=tuple(token for token, _ in steps),
        margins=tuple(greedy_margin(row.numpy(), limit) for _, row in steps),
        logits=tuple(
            make_digest(row.numpy(), first + i)
            for i, (_, row) in enumerate(steps)
            if i < _EVERY_DIGEST or i % _EVERY_DIGEST == 0
        ),
    )
