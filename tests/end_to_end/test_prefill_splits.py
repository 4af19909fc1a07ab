"""However a prompt is split, a session gives the Decoder's logits, past many ring wraps."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pocketlm.edge_build import backends
from pocketlm.edge_build.build import build
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.models.checkpoint import load_decoder, open_checkpoint
from pocketlm.runtime_py import Session, open_session
from tests.artifacts import CHUNK, CONTEXT
from tests.conftest import WINDOW

TOKENS = CONTEXT
RING = WINDOW + CHUNK - 1
assert TOKENS > 4 * RING


@pytest.fixture(scope="module")
def exact_bundle(
    tiny_checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("exact") / "tiny"
    # The sizes of other tests, whose ONNX graph it is.
    spec = BuildSpec(
        tiny_checkpoint("gemma3_text"),
        out,
        recipe="none",
        chunk=CHUNK,
        context_length=CONTEXT,
        golden_tokens=2,
    )
    build(spec)
    return out


@pytest.fixture(scope="module")
def sessions(exact_bundle: Path) -> Iterator[dict[str, Session]]:
    opened = {name: open_session(exact_bundle, backend=name) for name in backends.names()}
    yield opened
    for session in opened.values():
        session.close()


@pytest.fixture(scope="module")
def tokens() -> list[int]:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 512, (TOKENS,), generator=generator).tolist()


@pytest.fixture(scope="module")
def expected(tiny_checkpoint: Callable[[str], Path], tokens: list[int]) -> np.ndarray:
    decoder = load_decoder(open_checkpoint(tiny_checkpoint("gemma3_text")))
    with torch.no_grad():
        return np.asarray(decoder(torch.tensor([tokens]))[0].numpy())


@pytest.mark.parametrize("backend", backends.names())
@pytest.mark.parametrize(
    "length", [1, 2, WINDOW - 1, WINDOW, WINDOW + 1, CHUNK, CHUNK + 1, TOKENS], ids=str
)
def test_every_split_gives_the_logits_of_the_decoder(
    sessions: dict[str, Session],
    tokens: list[int],
    expected: np.ndarray,
    backend: str,
    length: int,
) -> None:
    session = sessions[backend]
    session.reset()
    for start in range(0, TOKENS, length):
        logits = session.prefill(tokens[start : start + length])
        position = min(start + length, TOKENS) - 1
        # 1e-3: recipe none against the Decoder, the same arithmetic (docs/numerics.md).
        assert np.abs(logits - expected[position]).max() <= 1e-3 * expected[position].std()
    assert session.position == TOKENS
