"""What a changed input meets besides pocketlm: doubles of engines and devices, and processes that
start fast.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from pocketlm.edge_build import installation
from pocketlm.runtime_py.engine import Engine
from pocketlm.runtime_py.manifest import Manifest
from tests.mutations.forked_python import ForkedPython

# Few modules, since a renderer's limit of memory counts them.
_RENDERER = ("jinja2.ext", "jinja2.meta", "jinja2.sandbox", "random", "datetime")
_LINT = (
    "jinja2.sandbox",
    "pocketlm.runtime_py.chat_template",
    "pocketlm.runtime_py.lint.answering",
    "pocketlm.runtime_py.lint.readers.executorch",
    "pocketlm.runtime_py.lint.readers.pocketlm",
    "pocketlm.runtime_py.tokenizer",
    "onnxruntime_genai",
    "pytorch_tokenizers",
)


@dataclass(frozen=True)
class Surroundings:
    """The processes that scripts are forked from."""

    renderers: ForkedPython
    readers: ForkedPython

    @property
    def processor_s(self) -> float:
        """Processor time of all their scripts so far."""
        return self.renderers.processor_s + self.readers.processor_s


@contextmanager
def doubled_surroundings(temporary: Path) -> Iterator[Surroundings]:
    """Run artifacts without a runtime, and fork processes instead of starting them.

    Args:
        temporary: folder for temporary files, so that those left behind are seen.
    """
    # It asks pip's records of some forty packages, which no input changes.
    installed = installation.inspect_installation()
    with ExitStack() as stack:
        stack.enter_context(patch.dict("os.environ", TMPDIR=str(temporary)))
        renderers = stack.enter_context(ForkedPython(*_RENDERER))
        readers = stack.enter_context(ForkedPython(*_LINT))
        for place, double in (
            ("tempfile.tempdir", str(temporary)),
            ("pocketlm.runtime_py.chat_template.subprocess", renderers),
            ("pocketlm.runtime_py.lint.own_process.subprocess", readers),
            ("pocketlm.runtime_py.engines.load", _engine),
            ("pocketlm.edge_build.memory_limit.return_freed_memory", lambda: None),
            ("pocketlm.edge_build.installation.inspect_installation", lambda *asked: installed),
        ):
            stack.enter_context(patch(place, double))
        yield Surroundings(renderers, readers)


class _Model:
    """An artifact whose answer depends on the last token alone."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def run(self, tokens: Any, position: int) -> NDArray[np.float32]:
        return row_of(tokens[-1], self.vocab_size)[None]

    def reset(self) -> None: ...

    def clear(self) -> None: ...

    def close(self) -> None: ...


def row_of(token: int, vocab_size: int) -> NDArray[np.float32]:
    """Return the logits, [V], that a doubled artifact answers after a token."""
    return np.random.default_rng(token).standard_normal(vocab_size).astype(np.float32)


def _engine(name: str) -> Engine:
    def load(folder: Path, manifest: Manifest, entry: Any, threads: int | None) -> _Model:
        return _Model(manifest.vocab_size)

    return Engine(name, (), load)
