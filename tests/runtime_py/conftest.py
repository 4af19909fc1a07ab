"""Fakes: a tokenizer with byte fallback, a scripted engine, and a tiny bundle around them."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from numpy.typing import NDArray
from tokenizers import decoders, models, normalizers, pre_tokenizers

from pocketlm.runtime_py import engines
from pocketlm.runtime_py.bundle import Bundle, open_bundle
from pocketlm.runtime_py.engine import Engine
from pocketlm.runtime_py.golden import ChatCase, Golden, TokenizerCase
from pocketlm.runtime_py.golden_cases import GoldenCase
from pocketlm.runtime_py.logits_digest import greedy_margin, make_digest
from pocketlm.runtime_py.manifest import (
    BackendEntry,
    CacheEntry,
    FileEntry,
    Manifest,
    RecipeRule,
    TensorEntry,
)
from pocketlm.runtime_py.recorded_settings import SETTINGS, RecordedSettings
from pocketlm.runtime_py.sampling import greedy_id
from pocketlm.runtime_py.tokenizer import Tokenizer
from pocketlm.runtime_py.tokenizer_library import LibraryTokenizer
from tests.manifests import decoder_component

SPECIALS = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
LETTERS = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,!?:\n€"
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "<start_of_turn>{{ m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def byte_fallback_tokenizer() -> tokenizers.Tokenizer:
    """A SentencePiece-style BPE as Gemma's, in small."""
    vocabulary = {token: i for i, token in enumerate(SPECIALS)}
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    for letter in LETTERS:
        vocabulary[letter] = len(vocabulary)
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("▁", "w"), ("▁", "▁")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    made = tokenizers.Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    made.normalizer = normalizers.Replace(" ", "▁")
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    made.add_special_tokens(list(SPECIALS))
    return made


def byte_level_tokenizer() -> tokenizers.Tokenizer:
    """A byte-level BPE as Qwen's, in small."""
    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|im_end|>"])
    return made


def stripping_tokenizer() -> tokenizers.Tokenizer:
    """As the first, but its decoder strips a leading space, as Llama 2's does."""
    made = byte_fallback_tokenizer()
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return made


TOKENIZERS = {
    "byte fallback": byte_fallback_tokenizer,
    "byte level": byte_level_tokenizer,
    "stripping": stripping_tokenizer,
}


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer(LibraryTokenizer(byte_fallback_tokenizer()), bos_id=2)


@pytest.fixture(params=list(TOKENIZERS))
def any_tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return Tokenizer(LibraryTokenizer(TOKENIZERS[request.param]()), bos_id=None)


@pytest.fixture
def raw_tokenizer() -> tokenizers.Tokenizer:
    return byte_fallback_tokenizer()


def history_logits(history: Sequence[int], vocab_size: int) -> NDArray[np.float32]:
    """Logits that depend on every token so far, as a model's do."""
    seed = hashlib.sha256(repr(list(history)).encode()).digest()[:8]
    generator = np.random.default_rng(int.from_bytes(seed, "little"))
    return generator.standard_normal(vocab_size).astype(np.float32)


@dataclass
class FakeModel:
    """An artifact with a script.

    Attributes:
        answers: prompt → ids that follow; without one, logits follow from the history.
        on_run: called before each run, to fail or to interrupt.
        disturb: changes logits, to stand for a broken artifact.
    """

    vocab_size: int
    answers: dict[tuple[int, ...], list[int]] = field(default_factory=dict)
    on_run: Callable[["FakeModel"], None] = lambda model: None
    disturb: Callable[["FakeModel", NDArray[np.float32]], NDArray[np.float32]] = (
        lambda model, logits: logits
    )
    history: list[int] = field(default_factory=list)
    calls: list[tuple[int, list[int]]] = field(default_factory=list)
    resets: int = 0
    closed: bool = False
    threads: int | None = None

    def run(self, tokens: Sequence[int], position: int) -> NDArray[np.float32]:
        self.on_run(self)
        self.calls.append((position, list(tokens)))
        self.history = [*self.history[:position], *tokens]
        rows = len(tokens) if len(tokens) <= LOGITS_ROWS else 1
        ends = range(len(self.history) - rows + 1, len(self.history) + 1)
        return np.stack([self.disturb(self, self._row(self.history[:end])) for end in ends])

    def _row(self, history: list[int]) -> NDArray[np.float32]:
        logits = history_logits(history, self.vocab_size)
        for prompt, answer in self.answers.items():
            step = len(history) - len(prompt)
            if tuple(history[: len(prompt)]) == prompt and 0 <= step < len(answer):
                logits[answer[step]] = 20.0
        return logits

    def reset(self) -> None:
        self.history = []
        self.resets += 1

    def clear(self) -> None:
        self.history = []

    def close(self) -> None:
        self.closed = True


# Of a call; the chunk is one longer.
LOGITS_ROWS = 3
CACHES = (
    CacheEntry("ring", 11, 8, 1, 4),
    CacheEntry("ring", 11, 8, 1, 4),
    CacheEntry("linear", 64, None, 1, 4),
)


def backend_entry(name: str, distribution: str) -> BackendEntry:
    return BackendEntry(
        model=f"{name}/model.bin",
        activation_quantization="none",
        runtime_floor={distribution: "1.2"},
        caches=CACHES,
        rewind_tokens=4,
        logits_size=400,
        logits_rows=LOGITS_ROWS,
        golden=f"golden/{name}.json",
        components=(decoder_component(f"{name}/model.bin", 400, len(CACHES)),),
    )


def make_manifest(vocab_size: int, files: tuple[FileEntry, ...]) -> Manifest:
    return Manifest(
        name="tiny",
        model={
            "vocab_size": vocab_size,
            "model_type": "gemma3_text",
            "attention_softcap": None,
            "layers": [
                {
                    "num_attention_heads": 2,
                    "num_key_value_heads": 1,
                    "head_dim": 4,
                    "intermediate_size": 64,
                    "window": None,
                    "rope_theta": 10_000.0,
                    "rope_factor": 1.0,
                }
            ]
            * 3,
            "hidden_size": 32,
        },
        context_length=64,
        prefill_chunk=4,
        recipe="int4-g32",
        bos_id=2,
        stop_ids=(1, 5),
        tensors=(
            TensorEntry("embed_tokens", (400, 32), 8, None, 13600, 40.5, "rule 1"),
            TensorEntry("layers.0.attention.q_proj", (32, 32), 4, 32, 576, 20.25, "rule 2"),
            TensorEntry("layers.0.attention_norm", (32,), 32, None, 128, None, "norms stay exact"),
        ),
        backends={
            "executorch": backend_entry("executorch", "fake-executorch"),
            "onnx": backend_entry("onnx", "fake-onnxruntime"),
        },
        files=files,
        notes=("vision tower left out",),
        build={"torch": "2.13.0"},
        recipe_rules=(RecipeRule("layers.*", 4, 32, "rule 2"), RecipeRule("*", 8, None, "rule 1")),
    )


def record(model: FakeModel, prompt: list[int], steps: int, name: str, limit: int) -> GoldenCase:
    """Greedy answers of the fake, as a builder would record them."""
    history, continuation, margins, digests = list(prompt), [], [], []
    for _ in range(steps):
        logits = history_logits(history, model.vocab_size)
        continuation.append(greedy_id(logits, limit))
        margins.append(greedy_margin(logits, limit))
        digests.append(make_digest(logits, len(history) - 1))
        history.append(continuation[-1])
    return GoldenCase(name, tuple(prompt), tuple(continuation), tuple(margins), tuple(digests))


def make_golden(model: FakeModel, tokenizer: Tokenizer) -> Golden:
    messages = ({"role": "user", "content": "hello"},)
    rendered = "<bos><start_of_turn>user\nhello<end_of_turn>\n<start_of_turn>model\n"
    return Golden(
        tokenizer_cases=(TokenizerCase("hello €", tuple(tokenizer.encode("hello €"))),),
        chat_cases=(ChatCase(messages, {}, rendered, tuple(tokenizer.encode(rendered))),),
        stop_ids=(1, 5),
        activation_quantization="none",
        tolerance=1e-3,
        exact_tolerance=1e-3,
        cases=(
            record(model, tokenizer.encode_prompt("hello"), 4, "short", tokenizer.size),
            record(model, tokenizer.encode_prompt("ab" * 8), 5, "wraps", tokenizer.size),
        ),
    )


@dataclass
class FakeBundle:
    """A bundle on disk, its model, and the means to change either."""

    folder: Path
    model: FakeModel
    tokenizer: Tokenizer
    loads: list[str]

    def open(self) -> Bundle:
        return open_bundle(self.folder)

    def write(self, name: str, text: str) -> None:
        """Change a file as a builder would: the manifest follows."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
        self.write_manifest()

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()
        self.write_manifest()

    def manifest(self) -> Manifest:
        return make_manifest(self.model.vocab_size, self.files())

    def write_manifest(self, **changes: Any) -> None:
        settings = RecordedSettings.of(replace(self.manifest(), **changes))
        (self.folder / SETTINGS).write_text(settings.to_json(), encoding="utf-8")
        self.write_manifest_alone(**changes)

    def write_manifest_alone(self, **changes: Any) -> None:
        """Change the manifest, not what was recorded of it when the bundle was built."""
        text = replace(self.manifest(), **changes).to_json()
        (self.folder / "manifest.json").write_text(text, encoding="utf-8")

    def files(self) -> tuple[FileEntry, ...]:
        paths = sorted(p for p in self.folder.rglob("*") if p.is_file() and p.suffix != ".tmp")
        return tuple(
            FileEntry(
                path.relative_to(self.folder).as_posix(),
                hashlib.sha256(path.read_bytes()).hexdigest(),
                path.stat().st_size,
            )
            for path in paths
            if path.name != "manifest.json"
        )


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Versions of distributions that the code believes to be installed; change it freely."""
    versions = {"fake-onnxruntime": "1.3", "fake-executorch": "1.2.0"}
    monkeypatch.setattr("pocketlm.runtime_py.runtime_versions._found_version", versions.get)
    return versions


@pytest.fixture
def fake_bundle(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tokenizer: Tokenizer,
    raw_tokenizer: tokenizers.Tokenizer,
    installed: dict[str, str],
) -> FakeBundle:
    folder = tmp_path / "tiny"
    # Some rows more than the tokenizer has tokens, as Qwen3 pads.
    bundle = FakeBundle(folder, FakeModel(tokenizer.size + 8), tokenizer, [])

    def load(
        folder: Path, manifest: Manifest, entry: BackendEntry, threads: int | None
    ) -> FakeModel:
        bundle.loads.append(entry.model)
        bundle.model.threads = threads
        return bundle.model

    found = {
        "onnx": Engine("onnx", ("fake-onnxruntime",), load, rank=1),
        "executorch": Engine("executorch", ("fake-executorch",), load, rank=2),
    }
    monkeypatch.setattr(engines, "names", lambda: tuple(sorted(found)))
    monkeypatch.setattr(engines, "load", found.__getitem__)

    folder.mkdir()
    golden = make_golden(bundle.model, tokenizer).to_json()
    texts = {
        "tokenizer.json": raw_tokenizer.to_str(),
        "tokenizer_config.json": json.dumps(
            {"bos_token": "<bos>", "eos_token": {"content": "<eos>"}, "add_bos_token": True}
        ),
        "chat_template.jinja": TEMPLATE,
        "generation_config.json": json.dumps({"do_sample": False, "eos_token_id": [1, 5]}),
        "onnx/model.bin": "onnx weights",
        "executorch/model.bin": "executorch weights",
        "golden/onnx.json": golden,
        "golden/executorch.json": golden,
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", newline="")
    bundle.write_manifest()
    return bundle


@pytest.fixture
def document(fake_bundle: FakeBundle) -> dict[str, Any]:
    """The manifest of that bundle in plain JSON; a test may damage it."""
    result: dict[str, Any] = json.loads(fake_bundle.manifest().to_json())
    return result
