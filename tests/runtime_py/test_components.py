"""What an artifact takes and gives is held against what the manifest says."""

from dataclasses import replace
from pathlib import Path

import pytest

from pocketlm.runtime_py.components import DECODER, Component, Signature, TensorSignature
from pocketlm.runtime_py.errors import RunError

TOKENS = TensorSignature("tokens", "int64", (1, "new"))
LOGITS = TensorSignature("logits", "float32", (1, 1, 400))
SIGNATURE = Signature((TOKENS,), (LOGITS,))
COMPONENT = Component(DECODER, "onnx/model.onnx", "graph", SIGNATURE, (0, 1))


def test_a_tensor_is_shown_with_its_sizes() -> None:
    assert str(TOKENS) == "tokens: int64[1, new]"
    assert str(replace(LOGITS, name=None)) == "a tensor: float32[1, 1, 400]"


def test_what_is_the_same_passes() -> None:
    COMPONENT.check(Path("x"), Signature((TOKENS,), (LOGITS,)))


def test_a_bundle_that_did_not_record_it_passes() -> None:
    replace(COMPONENT, signature=None).check(Path("x"), Signature((), ()))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (Signature((), (LOGITS,)), r"inputs\[0\] of graph should be tokens: .* but is nothing;"),
        (Signature((TOKENS, TOKENS), (LOGITS,)), r"inputs\[1\] of graph should be nothing by"),
        (
            Signature((TOKENS,), (replace(LOGITS, shape=(1, 1, 401)),)),
            r"^x: outputs\[0\] of graph should be logits: float32\[1, 1, 400\] by the manifest, "
            r"but is logits: float32\[1, 1, 401\]; .* build the bundle again",
        ),
        (Signature((replace(TOKENS, dtype="int32"),), (LOGITS,)), r"but is tokens: int32\[1, new"),
    ],
)
def test_the_first_difference_is_named(found: Signature, message: str) -> None:
    with pytest.raises(RunError, match=message):
        COMPONENT.check(Path("x"), found)
