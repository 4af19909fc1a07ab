"""What a .pte tells stock runners, held against the manifest."""

from dataclasses import replace
from typing import Any

import pytest

from pocketlm.runtime_py import engines
from pocketlm.runtime_py.engines.executorch.metadata import constant_methods, differences
from pocketlm.runtime_py.manifest import Manifest
from pocketlm.runtime_py.verification import verify
from tests.manifests import BARE_MANIFEST

MODEL = {"attention_softcap": None, "vocab_size": 512, "layers": [{}, {}, {}]}


class Program:
    """Answers as ExecuTorch's bindings do: each method a list of values."""

    def __init__(self, **constants: Any) -> None:
        self.constants = constants

    def method_names(self) -> list[str]:
        return [*self.constants, "forward"]

    def run_method(self, name: str, inputs: tuple[()]) -> list[Any]:
        constant = self.constants[name]
        return constant if isinstance(constant, list) else [constant]


@pytest.fixture
def manifest() -> Manifest:
    return replace(BARE_MANIFEST, model=MODEL, bos_id=2, stop_ids=(1,))


def constants(**changes: Any) -> dict[str, Any]:
    return {**constant_methods(MODEL, 64, 5, (1,), 2), **changes}


def test_a_program_that_says_what_the_manifest_says_does_not_differ(manifest: Manifest) -> None:
    assert list(differences(Program(**constants()), manifest)) == []
    # One stop id or several: a list either way.
    program = Program(**constants(get_eos_ids=[1, 5]))
    assert list(differences(program, replace(manifest, stop_ids=(1, 5)))) == []


@pytest.mark.parametrize(
    ("method", "told", "expected"),
    [
        ("get_max_seq_len", 6, "5"),
        ("get_max_context_len", 63, "64"),
        ("enable_dynamic_shape", False, "True"),
        ("use_kv_cache", False, "True"),
        ("use_sdpa_with_kv_cache", False, "True"),
        ("get_vocab_size", 513, "512"),
        ("get_n_layers", 2, "3"),
        ("get_eos_ids", [1, 3], "1"),
        ("get_bos_id", 1, "2"),
    ],
)
def test_each_constant_that_differs_is_named(
    manifest: Manifest, method: str, told: Any, expected: str
) -> None:
    found = ", ".join(map(str, told)) if isinstance(told, list) else str(told)
    program = Program(**constants(**{method: told}))
    assert list(differences(program, manifest)) == [(method, expected, found)]


def test_a_constant_that_is_missing_or_too_many_is_named(manifest: Manifest) -> None:
    without = Program(**{n: v for n, v in constants().items() if n != "get_n_layers"})
    assert list(differences(without, manifest)) == [("get_n_layers", "3", "nothing")]
    without_bos = replace(manifest, bos_id=None)
    assert list(differences(Program(**constants()), without_bos)) == [
        ("get_bos_id", "nothing", "2")
    ]


def test_verify_names_what_an_artifact_tells_stock_runners_wrongly(
    fake_bundle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = replace(
        engines.load("onnx"), metadata_differences=lambda *_: iter([("get_bos_id", "2", "1")])
    )
    monkeypatch.setattr(engines, "load", lambda name: engine)
    (mismatch,) = verify(fake_bundle.open(), "onnx").mismatches
    assert (mismatch.check, mismatch.case) == ("settings", "onnx/model.bin: get_bos_id")
    assert (mismatch.expected, mismatch.found) == ("2", "1")
