"""Everything that run and chat need of a bundle, opened together."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pocketlm.runtime_py.bundle import read_bundle
from pocketlm.runtime_py.chat_template import ChatTemplate
from pocketlm.runtime_py.commands.flags import SamplingFlags
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.generation import GenerationResult, Piece
from pocketlm.runtime_py.sampling import SamplingOptions
from pocketlm.runtime_py.session import choose_backend
from pocketlm.runtime_py.speculation.drafter import Drafter
from pocketlm.runtime_py.speculation.opening import open_drafter
from pocketlm.runtime_py.text import TextModel, open_model, read_generation_config


@contextmanager
def open_checked(
    folder: str,
    backend: str | None,
    threads: int | None,
    skip_hashes: bool,
    sampling: SamplingFlags,
) -> Iterator[tuple[TextModel, SamplingOptions]]:
    """Open a bundle to generate with, by the checkpoint's defaults under what the user typed.

    Raises:
        RunError: anything about it cannot be used.
    """
    bundle = read_bundle(folder)
    name = choose_backend(bundle) if backend is None else backend
    bundle.check(name, hashes=not skip_hashes)
    options = sampling.over(read_generation_config(bundle))
    with open_model(bundle, name, threads) as model:
        yield model, options


@contextmanager
def opened_drafter(name: str, model: TextModel, threads: int | None) -> Iterator[Drafter | None]:
    """Open what guesses tokens for a model.

    Raises:
        RunError: as `open_drafter`.
    """
    drafter = open_drafter(name, model.bundle, model.session, model.tokenizer, threads)
    try:
        yield drafter
    finally:
        if drafter is not None:
            drafter.close()


def chat_template(model: TextModel, think: bool | None) -> ChatTemplate:
    """Return the chat template.

    Raises:
        RunError: the bundle has none, or it has no thinking switch to set.
    """
    if model.template is None:
        raise RunError(
            f"{model.bundle.folder}: the checkpoint has no chat template, so it continues text "
            "and does not chat; use pocketlm run --raw"
        )
    if think is not None and "enable_thinking" not in model.template.source:
        flag = "--think" if think else "--no-think"
        raise RunError(f"{flag}: the chat template has no enable_thinking switch; leave it out")
    return model.template


def print_pieces(pieces: Iterable[Piece]) -> None:
    """Print text on stdout as it comes."""
    for piece in pieces:
        write(piece.text)
    write("\n")


def write(text: str) -> None:
    """Print text on stdout; characters that the terminal cannot show are replaced."""
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def timings(result: GenerationResult) -> str:
    """Describe how fast an answer was and what ended it, in one line."""
    prefill, decode = result.prefill_tokens_per_s, result.decode_tokens_per_s
    parts = [f"prompt {result.prompt_tokens} tokens"]
    if prefill is not None:
        parts[0] += f" in {result.prefill_s:.2f} s ({prefill:.1f} tokens/s)"
    parts.append(f"answer {len(result.tokens)} tokens")
    if decode is not None:
        parts[1] += f" in {result.decode_s:.2f} s ({decode:.1f} tokens/s)"
    if result.drafted_tokens:
        parts.append(f"{result.accepted_tokens} of {result.drafted_tokens} drafted tokens accepted")
    parts.append(_ENDINGS[result.reason])
    return ", ".join(parts)


_ENDINGS = {
    "stop": "ended by a stop token",
    "length": "ended by --max-new-tokens",
    "context": "ended by the end of the context; build with a larger --context for more",
    "interrupted": "interrupted",
}
