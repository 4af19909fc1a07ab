"""A backend is three folders: one elsewhere builds, runs, verifies, is inspected and planned."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pocketlm import main
from pocketlm.device_tests import runners
from pocketlm.edge_build import backends
from pocketlm.runtime_py import engines
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.session import open_session
from tests.conftest import MakeCheckpoint

# Its artifact is every weight in float32, which the eager model runs.
LOWERING = """
from pathlib import Path
from typing import Any

import numpy as np

from pocketlm.edge_build.backend import Artifact, Backend, LoweringInput
from pocketlm.runtime_py.components import DECODER, Component

MODEL = "toy/model.npz"


def lower(source: LoweringInput, bundle: Path) -> Artifact:
    (bundle / MODEL).parent.mkdir(parents=True)
    weights = source.weights
    with (bundle / MODEL).open("wb") as file:
        np.savez(file, **{name: _whole(weights, name) for name in weights.names()})
    return Artifact(
        model=MODEL,
        files=(MODEL,),
        activation_quantization="none",
        runtime_floor={"numpy": "1.26"},
        caches=source.caches.layers,
        rewind_tokens=source.caches.rewind_tokens,
        logits_size=source.config.vocab_size,
        components=(_decoder(source),),
        options=source.options,
    )


def _decoder(source):
    # It has no graph to read inputs and outputs from.
    caches = tuple(range(len(source.caches.layers)))
    return Component(DECODER, MODEL, entry_point=None, signature=None, caches=caches)


def _whole(weights, name):
    shape = weights.shape(name)
    return weights.rows(name, 0, shape[0]) if len(shape) == 2 else weights.floating(name)


BACKEND = Backend("toy", lower, options={"rounding": ("off", "on")}, tools=("numpy",))
"""
ENGINE = """
from pathlib import Path
from typing import Any

import numpy as np

from pocketlm.runtime_py.engine import Engine


class Weights:
    def __init__(self, path: Path) -> None:
        with np.load(path) as stored:
            self.tensors = dict(stored)

    def head_name(self):
        return "lm_head" if "lm_head" in self.tensors else "embed_tokens"

    def shape(self, name):
        return self.tensors[name].shape

    def rows(self, name, start, stop):
        return self.tensors[name][start:stop].copy()

    def floating(self, name):
        return self.tensors[name]


class ToyModel:
    # Reads everything anew in each call: what it was fed, and where.
    def __init__(self, folder, manifest, entry, threads) -> None:
        from pocketlm.edge_build.reference import eager_decoder
        from pocketlm.models.config import LayerConfig, ModelConfig

        layers = tuple(LayerConfig(**layer) for layer in manifest.model["layers"])
        self.config = ModelConfig(**{**manifest.model, "layers": layers})
        weights = Weights(folder / entry.model)
        self.decoder = eager_decoder(self.config, weights, lambda name: [None])
        self.fed = []

    def run(self, tokens, position):
        import torch

        from pocketlm.edge_build.quantization.activations import attention_rounding
        from pocketlm.edge_build.reference_attention import KeepEverything

        self.fed = [(at, token) for at, token in self.fed if at < position]
        self.fed += enumerate(tokens, position)
        positions, ids = (torch.tensor(part) for part in zip(*self.fed, strict=True))
        with torch.no_grad():
            step = KeepEverything(
                self.config, None, positions, [attention_rounding("none", None)]
            )
            return self.decoder.forward_last(ids[None], step)[0].numpy()

    def reset(self):
        self.fed = []

    clear = close = reset


ENGINE = Engine("toy", ("numpy",), ToyModel)
"""
MEMORY = """
class ToyMemory:
    heads_apart = False
    code_bytes = {"aarch64": 1_000_000}

    def packed_bytes(self, tensors):
        return sum(tensor.size_bytes for tensor in tensors), "every weight"

    def table_row_bytes(self, table):
        return (4 * table.shape[1],)

    def activation_bytes(self, shape, choices, call_tokens, architecture):
        return 4 * call_tokens * shape.intermediate, "the MLP"

    def mapped_bytes(self, shape):
        return 0

    def heap_bytes(self, shape):
        return 1_000_000

    def load_transient(self, tensors, architecture):
        return 0, "nothing"


MEMORY = ToyMemory()
"""
RUNNER = """
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.runners.device_runner import DeviceRunner


def compile(out, tools, runtime, run_path=None):
    raise DeviceError("a toy has no runner")


RUNNER = DeviceRunner(
    "toy", "numpy", (), compile, libraries=lambda package: [], has_libraries=lambda package: False
)
"""
HOMES = {
    backends: {"__init__": LOWERING},
    engines: {"__init__": "", "engine": ENGINE, "memory": MEMORY, "apps": "APPS = {}"},
    runners: {"__init__": RUNNER},
}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Put one folder more on the path of each package that has a folder a backend."""
    folder = tmp_path_factory.mktemp("homes")
    with pytest.MonkeyPatch.context() as patch:
        for package, files in HOMES.items():
            home = folder / package.__name__ / "toy"
            home.mkdir(parents=True)
            for name, text in files.items():
                (home / f"{name}.py").write_text(text)
            patch.setattr(package, "__path__", [*package.__path__, str(home.parent)])
        yield "toy"
    for package in HOMES:
        vars(package).pop("toy", None)
        for name in [name for name in sys.modules if name.startswith(f"{package.__name__}.toy")]:
            del sys.modules[name]


@pytest.fixture(scope="module")
def bundle(
    toy: str, tiny_checkpoint: MakeCheckpoint, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out: Path = tmp_path_factory.mktemp("bundles") / "tiny"
    sizes = ("--context", "40", "--chunk", "5", "--backend", toy, "-O", "toy.rounding=off")
    shown = pocketlm("build", str(tiny_checkpoint("gemma3_text")), "--out", str(out), *sizes)
    assert shown.exit_code == 0, shown.output
    return out


def pocketlm(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def document(*arguments: str) -> dict[str, Any]:
    shown = pocketlm(*arguments, "--json")
    assert shown.exit_code == 0, shown.output
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def test_it_is_verified(bundle: Path) -> None:
    found = document("verify", str(bundle))
    assert found["passed"]
    assert found["backends"].keys() == {"toy"}


def test_it_runs(bundle: Path) -> None:
    found = document("run", str(bundle), "--prompt", "a", "-n", "3", "--temp", "0")
    assert found["backend"] == "toy"
    assert len(found["token_ids"]) <= 3


def test_it_is_inspected(bundle: Path) -> None:
    parts = document("inspect", str(bundle))["cache_parts"]
    assert parts
    assert {part["backend"] for part in parts} == {"toy"}


def test_it_is_planned(toy: str, bundle: Path) -> None:
    for what in (str(bundle), "gemma-3-270m"):
        found = document("fit", what, "--backend", toy, "--device", "phone-8gb")["fits"]
        assert [one["backend"] for one in found] == [toy]


def test_it_is_listed_and_doctor_still_answers(toy: str) -> None:
    assert toy in document("list", "backends")["backends"]
    # Its tools are no extra of this pocketlm.
    assert toy not in {extra["name"] for extra in document("doctor")["extras"]}


def test_without_its_folders_a_bundle_asks_for_another_pocketlm(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "__path__", list(engines.__path__)[:1])
    with pytest.raises(RunError, match=r"artifacts for toy, and none of .*; update pocketlm"):
        open_session(bundle)
