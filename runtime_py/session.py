"""Session: where a model stands in its context; prefill, decode, check, rewind, reset."""

import logging
from collections.abc import Iterator, Sequence
from operator import index
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from pocketlm.runtime_py import caches, engines
from pocketlm.runtime_py.bundle import Bundle, read_bundle
from pocketlm.runtime_py.closing import Closing
from pocketlm.runtime_py.engine import LoadedModel
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.manifest import Manifest
from pocketlm.runtime_py.process_tuning import process_tuning
from pocketlm.runtime_py.runtime_versions import check_versions, is_installed

_LOG = logging.getLogger("pocketlm.session")

Logits = NDArray[np.float32]


class Session(Closing):
    """One sequence of tokens in a loaded model. Every mistake is found before a cache changes."""

    def __init__(self, model: LoadedModel, manifest: Manifest, backend: str) -> None:
        self.backend = backend
        self.context_length = manifest.context_length
        self.prefill_chunk = manifest.prefill_chunk
        self.vocab_size = manifest.vocab_size
        self.logits_rows = manifest.backends[backend].logits_rows
        self._layouts = {cache.layout for cache in manifest.backends[backend].caches}
        self._model = model
        self._position = 0
        # The most tokens since the last reset: what they overwrote stays lost after a rewind.
        self._longest = 0
        self._interrupted = False
        self._closed = False

    @property
    def position(self) -> int:
        """Tokens in the caches."""
        return self._position

    @property
    def is_closed(self) -> bool:
        """Whether the model's memory was released."""
        return self._closed

    @property
    def needs_reset(self) -> bool:
        """Whether a call was broken off inside the model, which leaves the caches in doubt."""
        return self._interrupted

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """Process tokens in chunks of `prefill_chunk`.

        Returns:
            Logits after the last token, float32 [V].

        Raises:
            RunError: there are none, one is outside the vocabulary, or they do not fit.
        """
        rows = None
        for chunk in self.chunks(tokens):
            rows = self._run(chunk)
        assert rows is not None, "chunks() refuses an empty prompt"
        last: Logits = rows[-1]
        return last

    def decode(self, token: int) -> Logits:
        """Process one token; the same as a prefill of it."""
        return self.prefill([token])

    def check(self, tokens: Sequence[int]) -> Logits:
        """Process at most `logits_rows` tokens in one call: one, and others that are guessed.

        Returns:
            Logits after each of them, float32 [tokens, V].

        Raises:
            RunError: as `prefill`, or there are more than the artifact gives logits for.
        """
        checked = self._checked(tokens)
        if len(checked) > self.logits_rows:
            raise RunError(
                f"check of {len(checked)} tokens: the artifact gives logits after each of at most "
                f"{self.logits_rows}; give fewer, or build with a larger --logits-rows"
            )
        return self._run(checked)

    def draft_tokens(self) -> int:
        """Return how many guessed tokens a `check` may have behind its first, and take back."""
        return self.most_taken_back(self.logits_rows - 1, after=1)

    def most_taken_back(self, most: int, after: int = 0) -> int:
        """Return how many more tokens, of at most so many, fit and could be taken back.

        Args:
            after: tokens that are processed first, and stay.
        """
        first = self._position + after
        for tokens in range(min(most, self.context_length - first), 0, -1):
            longest = max(self._longest, first + tokens)
            if caches.rewind_error(self._layouts, longest, first) is None:
                return tokens
        return 0

    def chunks(self, tokens: Sequence[int]) -> Iterator[list[int]]:
        """Check tokens as a whole, then cut them; for callers that prefill chunk by chunk.

        Raises:
            RunError: as `prefill`; nothing has been processed then.
        """
        checked = self._checked(tokens)
        starts = range(0, len(checked), self.prefill_chunk)
        return iter([checked[start : start + self.prefill_chunk] for start in starts])

    def rewind(self, position: int) -> None:
        """Go back to an earlier position, so that other tokens can follow; 0 is a reset.

        Raises:
            RunError: the position is ahead, or a ring cache has overwritten what it needs.
        """
        error = self.rewind_error(position)
        if error is not None:
            raise RunError(error)
        if position == 0:
            self.reset()
        self._position = index(position)

    def rewind_error(self, position: int) -> str | None:
        """Say why `rewind` would refuse; None if it would not."""
        self._refuse_closed()
        try:
            position = index(position)
        except TypeError:
            return f"rewind to {position!r}: give a whole number of tokens"
        if position == 0:
            return None
        if self._interrupted:
            return "rewind: the last call was interrupted while it wrote the caches; reset first"
        if not 0 <= position <= self._position:
            return (
                f"rewind to {position}: the session stands at {self._position}; give 0 to "
                f"{self._position}"
            )
        return caches.rewind_error(self._layouts, self._longest, position)

    def reset(self) -> None:
        """Forget every token."""
        self._refuse_closed()
        self._model.reset()
        self._position, self._longest, self._interrupted = 0, 0, False

    def close(self) -> None:
        """Release the model's memory; the session cannot be used after that."""
        if not self._closed:
            self._model.close()
        self._closed = True

    def _refuse_closed(self) -> None:
        if self._closed:
            raise RunError("the session is closed; open another with open_session")

    def _run(self, tokens: Sequence[int]) -> Logits:
        if self._interrupted:
            raise RunError(
                "the last call was interrupted while it wrote the caches; reset the session and "
                "prefill again"
            )
        # A cache that evicts cannot take tokens twice, so an unfinished call is remembered.
        self._interrupted = True
        rows = self._model.run(tokens, self._position)
        self._position += len(tokens)
        self._longest = max(self._longest, self._position)
        self._interrupted = False
        return rows

    def _checked(self, tokens: Sequence[int]) -> list[int]:
        self._refuse_closed()
        try:
            count = len(tokens)
        except TypeError as error:
            raise RunError(f"prefill of {tokens!r}: give a list of token ids") from error
        if count == 0:
            raise RunError("prefill of no tokens: nothing to predict from; give at least 1")
        ids = [_as_id(token) for token in tokens]
        for place, token in enumerate(ids):
            if not 0 <= token < self.vocab_size:
                raise RunError(
                    f"token id {token} at place {place}: the model has ids 0 to "
                    f"{self.vocab_size - 1}; use the bundle's own tokenizer"
                )
        if self._position + len(ids) > self.context_length:
            raise RunError(
                f"context full: {len(ids)} tokens asked for at position {self._position} of "
                f"{self.context_length}; reset, rewind or shorten the prompt, or build with a "
                "larger --context"
            )
        return ids


def open_session(
    bundle: Bundle | Path | str,
    backend: str | None = None,
    threads: int | None = None,
    *,
    tune_process: bool = False,
) -> Session:
    """Load one artifact of a bundle.

    Args:
        bundle: a folder is opened and its files' hashes are checked first.
        backend: None takes the first whose runtime is installed.
        threads: None is the runtime's own choice, with `tune_process` the physical cores.
        tune_process: let the runtime also set the process's allocator, the threads of its BLAS
            and where file descriptor 2 leads, as the commands do: decoding may be faster.

    Raises:
        RunError: no such bundle, file, backend or runtime.
    """
    opened, name = checked_bundle(bundle, backend)
    with process_tuning(tune_process):
        return Session(open_model(opened, name, threads), opened.manifest, name)


def checked_bundle(bundle: Bundle | Path | str, backend: str | None) -> tuple[Bundle, str]:
    """Return a bundle and the backend to run: `open_session` before it loads anything."""
    opened = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
    name = choose_backend(opened) if backend is None else backend
    if opened is not bundle:
        opened.check(backend=name)
    return opened, name


def open_model(
    bundle: Bundle, backend: str, threads: int | None = None, *, exact: bool = False
) -> LoadedModel:
    """Load one artifact of a checked bundle, without a session around it.

    Args:
        exact: without rounded activations; only where the engine offers that.

    Raises:
        RunError: no such backend or runtime, or the artifact cannot be loaded.
    """
    if threads is not None and threads < 1:
        raise RunError(f"threads={threads}: give at least 1, or leave it out for all cores")
    entry, engine = bundle.backend(backend), engines.load(backend)
    check_versions(engine, entry.runtime_floor)
    load = engine.load
    if exact:
        assert engine.exact is not None, f"engine {backend} has no exact form"
        load = engine.exact.load
    begun = perf_counter()
    model = load(bundle.folder, bundle.manifest, entry, threads)
    _LOG.info("%s: %s loaded in %.2f s", bundle.folder, backend, perf_counter() - begun)
    return model


def choose_backend(bundle: Bundle) -> str:
    """Return the first backend of a bundle whose runtime is installed.

    Raises:
        RunError: there is none; says what to install.
    """
    present = sorted(bundle.manifest.backends)
    known = [engines.load(name) for name in present if name in engines.names()]
    known.sort(key=lambda engine: engine.rank)
    for engine in known:
        if is_installed(engine):
            return engine.name
    wanted = " or ".join(" ".join(engine.distributions) for engine in known)
    raise RunError(
        f"{bundle.folder}: the bundle has artifacts for {', '.join(present) or 'no backend'}, and "
        f"none of their runtimes is installed; "
        + (f"pip install {wanted}" if wanted else "update pocketlm")
    )


def _as_id(token: object) -> int:
    try:
        return index(token)  # type: ignore[arg-type]
    except TypeError as error:
        raise RunError(f"{token!r} is not a token id; give integers") from error
