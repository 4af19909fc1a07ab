"""Records golden answers from the eager quantized model: what every artifact has to say.

The reference keeps all keys and masks by position, so a ring that loses a key cannot agree.
"""

from collections.abc import Iterator, Mapping
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

# Largest difference of a logit in standard deviations of its row; derived in docs/numerics.md.
TOLERANCES: Mapping[ActivationQuantization, float] = {
    "none": 1e-3,
    "per_token_asymmetric": 0.05,
    "per_block_symmetric": 0.05,
}
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
    answers = {
        kind: _answers(prepared, weights, kind, prompts, advance, (i, len(kinds)))
        for i, kind in enumerate(kinds)
    }
    (bundle / "golden").mkdir()
    paths = {}
    for name, artifact in artifacts.items():
        kind = artifact.activation_quantization
        golden = Golden(
            activation_quantization=kind,
            tolerance=TOLERANCES[kind],
            stop_ids=prepared.text.stop_ids,
            tokenizer_cases=texts,
            chat_cases=chats,
            cases=answers[kind],
        )
        paths[name] = f"golden/{name}.json"
        (bundle / paths[name]).write_text(golden.to_json(), encoding="utf-8")
    return paths


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
    prompts |= {"chat": case.ids for case in chats[:1]}
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


def _answers(
    prepared: Preparation,
    weights: WeightStore,
    activations: ActivationQuantization,
    prompts: Mapping[str, tuple[int, ...]],
    advance: Advance,
    place: tuple[int, int],
) -> tuple[GoldenCase, ...]:
    """Continue every prompt greedily in the eager model; `place` counts the kinds of it."""
    model = ReferenceModel(prepared.checkpoint.config, weights, activations)
    tokens = _golden_tokens(prepared)
    steps = len(prompts) * tokens
    number, kinds = place
    cases = []
    for name, prompt in prompts.items():
        case_steps = []
        for step in _greedy(model, prompt, tokens, prepared.text.tokenizer_size):
            case_steps.append(step)
            done = number * steps + len(cases) * tokens + len(case_steps)
            advance("golden", done, kinds * steps, f"{name} ({activations})")
        cases.append(_case(name, prompt, case_steps, prepared.text.tokenizer_size))
    return tuple(cases)


def _greedy(
    model: ReferenceModel, prompt: tuple[int, ...], tokens: int, limit: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield each greedy token below `limit`, and the row of logits [V] that it was chosen from."""
    model.reset()
    row = model.run(prompt)[-1]
    for i in range(tokens):
        token = int(row[:limit].argmax())
        yield token, row
        if i + 1 < tokens:
            row = model.run([token])[-1]


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
