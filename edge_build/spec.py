"""BuildSpec: one build in one value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pocketlm.edge_build.errors import BuildError
from pocketlm.runtime_py.kv_choice import KV_NAMES, KvName

# A build with "auto" measures which layers may be kept in int8.
KvOption = Literal[KvName, "auto"]
KV_OPTIONS: tuple[KvOption, ...] = (*KV_NAMES, "auto")

DEFAULT_CONTEXT_LENGTH = 4096
DEFAULT_CHUNK = 128
DEFAULT_GOLDEN_TOKENS = 64
# Eight tokens in one call cost about two calls of one; more cost more than drafts win.
DEFAULT_LOGITS_ROWS = 8
# Of a text of the user's. More win a little, and take time: docs/lab-notes.md has figures.
DEFAULT_CALIBRATION_TOKENS = 16_384
FEWEST_CALIBRATION_TOKENS = 256


@dataclass(frozen=True)
class BuildSpec:
    """What to build.

    Attributes:
        checkpoint: folder in Hugging Face format, or a GGUF file.
        out: bundle folder to make; must not exist, unless it is a bundle to `replace`.
        backends: names of folders in edge_build/backends; empty means every backend.
        recipe: name, or the path of a .toml file; None keeps the grid that the checkpoint is on,
            if it is on one, and takes int8-head4 otherwise.
        context_length: positions; None takes the model's maximum, at most 4096.
        chunk: most tokens in one call of the artifact; None takes 128, at most the context.
        kv: what keys and values are kept in, by the kind of their layer; "auto" measures it.
        golden_tokens: greedy tokens recorded per case; None takes 64, fewer for large models.
        backend_options: backend name → option → value.
        max_ram_bytes: the build is refused if it would hold more; None only warns if it would not
            fit into what the machine has free.
        name: what the bundle calls itself; None takes the checkpoint's.
        replace: a bundle at `out` is replaced, all at once, when the new one is whole.
        fresh: start over even if an interrupted build of the same could be continued.
        use_cache: take lowered programs from the user's cache, and keep them there.
        method: how codes and scales are chosen, in place of the recipe's own methods; a name of
            edge_build/quantization/methods.
        calibration_text: file of text for methods that need data; None is the model's own text.
        calibration_tokens: of that file, that are read at most; None takes 16,384.
        bits_per_weight: a recipe of so many bits a weight at most is planned, in place of a given
            one, and stands in the bundle.
        tokenizer: folder whose tokenizer, template and generation settings are taken in place of
            the checkpoint's.
        logits_rows: a call of at most so many tokens gives logits after each, for drafts; None
            takes 8, at most the chunk.
    """

    checkpoint: Path
    out: Path
    backends: tuple[str, ...] = ()
    recipe: str | None = None
    context_length: int | None = None
    chunk: int | None = None
    kv: KvOption = "float32"
    golden_tokens: int | None = None
    backend_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    max_ram_bytes: int | None = None
    fresh: bool = False
    name: str | None = None
    replace: bool = False
    use_cache: bool = True
    method: str | None = None
    calibration_text: Path | None = None
    calibration_tokens: int | None = None
    tokenizer: Path | None = None
    bits_per_weight: float | None = None
    logits_rows: int | None = None

    def __post_init__(self) -> None:
        if self.kv not in KV_OPTIONS:
            raise BuildError(f"--kv {self.kv}: unknown; choose one of {', '.join(KV_OPTIONS)}")
        if self.golden_tokens is not None and self.golden_tokens < 1:
            raise BuildError(f"--golden-tokens {self.golden_tokens} must be at least 1")
        if self.calibration_tokens is not None:
            _check_calibration_tokens(self.calibration_tokens, self.calibration_text)
        if self.bits_per_weight is not None:
            _check_bits(self.bits_per_weight, self.recipe)
        if self.name is not None and not self.name.strip():
            raise BuildError("--name is empty; give a name or leave it out")

    @property
    def resolved_calibration_tokens(self) -> int:
        """Tokens of the calibration text that are read at most."""
        return self.calibration_tokens or DEFAULT_CALIBRATION_TOKENS

    def resolved_context(self, longest: int) -> int:
        """Return the context length for a model made for `longest` positions."""
        if self.context_length is not None:
            return self.context_length
        return min(longest, DEFAULT_CONTEXT_LENGTH)

    def resolved_chunk(self, context_length: int) -> int:
        """Return the prefill chunk."""
        return self.chunk if self.chunk is not None else min(DEFAULT_CHUNK, context_length)

    def resolved_logits_rows(self, chunk: int) -> int:
        """Return the rows of logits of a short call."""
        return self.logits_rows if self.logits_rows is not None else min(DEFAULT_LOGITS_ROWS, chunk)


def _check_calibration_tokens(tokens: int, text: Path | None) -> None:
    if text is None:
        raise BuildError(
            f"--calibration-tokens {tokens}: are of a text; give it with --calibrate FILE, or "
            "leave them out"
        )
    if tokens < FEWEST_CALIBRATION_TOKENS:
        raise BuildError(
            f"--calibration-tokens {tokens}: calibration needs {FEWEST_CALIBRATION_TOKENS} or more"
        )


def _check_bits(bits_per_weight: float, recipe: str | None) -> None:
    if recipe is not None:
        raise BuildError(
            f"--bits-per-weight {bits_per_weight:g}: --recipe {recipe} says the bits already; "
            "leave one of them out"
        )
    # Not so for NaN either.
    if not 1 <= bits_per_weight <= 16:
        raise BuildError(f"--bits-per-weight {bits_per_weight:g}: give 1 to 16")
