"""What `--kv auto` measures is the KL divergence of each choice from the float model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pocketlm.edge_build.calibration.measured import CalibrationStore
from pocketlm.edge_build.calibration.running import calibrate
from pocketlm.edge_build.kv_measuring import (
    KvMeasurements,
    _Divergences,
    measure_kv,
    measured_tokens,
)
from pocketlm.edge_build.kv_scales import KvScales, scales_of
from pocketlm.edge_build.preparation import Preparation, prepare
from pocketlm.edge_build.progress import silent
from pocketlm.edge_build.quantization.activations import Rounding
from pocketlm.edge_build.quantization.apply import quantize_weights
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.edge_build.reference import ReferenceModel
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.models.checkpoint import load_decoder
from tests.conftest import PICO, MakeCheckpoint


class Measured:
    """A tiny model that was quantized and calibrated, and its measurements."""

    def __init__(
        self, checkpoint: Path, folder: Path, backends: Sequence[str] = (), recipe: str = "int4-g32"
    ) -> None:
        spec = BuildSpec(checkpoint, folder / "out", tuple(backends), recipe, 48, 8, "auto")
        self.prepared: Preparation = prepare(spec)
        (folder / "store").mkdir(parents=True)
        (folder / "calibrated").mkdir()
        self.weights: WeightStore = quantize_weights(
            self.prepared.checkpoint, self.prepared.rules, folder / "store", silent
        ).weights
        self.scales: KvScales | None = None
        if self.prepared.float_statistics[0]:
            store: CalibrationStore = calibrate(self.prepared, folder / "calibrated", silent)
            self.scales = scales_of(store.kv_bounds())
        self.told: list[tuple[int, int]] = []
        self.found: KvMeasurements = measure_kv(
            self.prepared, self.weights, self.scales, self._advance
        )

    def _advance(self, stage: str, done: int, total: int, what: str) -> None:
        assert stage == "kv" and what
        self.told.append((done, total))

    def kl(self, way: Rounding) -> float:
        """Return the KL divergence of a way, by models that are run alone."""
        tokens = measured_tokens(self.prepared)
        whole = load_decoder(self.prepared.checkpoint)
        with torch.no_grad():
            p = torch.log_softmax(whole(torch.tensor([tokens]))[0].double(), -1).numpy()
        model = ReferenceModel(
            self.prepared.checkpoint.config,
            self.weights,
            way.activations,
            way.attention,
            self.scales,
            whole=way.whole,
        )
        q = torch.log_softmax(model.run(tokens).double(), -1).numpy()
        return float((np.exp(p) * (p - q)).sum(-1).mean())


WAYS = {
    "onnx": "kv_per_channel",
    "executorch": "qkv_per_token",
}


@pytest.mark.parametrize("backend", list(WAYS))
def test_it_is_the_divergence_of_models_that_are_run_alone(
    backend: str, tiny_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    measured = Measured(tiny_checkpoint("gemma3_text"), tmp_path, (backend,))
    found = {one.kv: one.kl_nats for one in measured.found.tried[backend]}
    # Layers 0 and 2 have a window.
    whole = {"float32": (0, 1, 2), "int8-local": (1,), "int8-global": (0, 2), "int8": ()}
    names = list(whole) if backend == "executorch" else ["float32", "int8"]
    assert list(found) == names
    for name in names:
        kept = whole[name]
        attention = "none" if name == "float32" else WAYS[backend]
        way = Rounding("none", attention, kept if attention != "none" else ())  # type: ignore[arg-type]
        # Float32 sums in another order; two choices are a hundred times as far apart.
        assert found[name] == pytest.approx(measured.kl(way), abs=2e-6), name
    assert len(set(found.values())) == len(names)


def test_sizes_are_those_of_the_backends_caches(
    tiny_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    measured = Measured(tiny_checkpoint("gemma3_text"), tmp_path)
    prepared = measured.prepared
    for backend in prepared.backends:
        for one in measured.found.tried[backend.name]:
            named = replace(prepared, spec=replace(prepared.spec, kv=one.kv))
            assert one.size_bytes == named.caches_of(backend).size_bytes
    whole, codes = (one.size_bytes for one in measured.found.tried["onnx"])
    assert codes == whole // 4
    sizes = [one.size_bytes for one in measured.found.tried["executorch"]]
    assert sizes[0] > max(sizes[1:3]) and min(sizes[1:3]) > sizes[3]
    # Float32 caches lose the same on both.
    assert len({tried[0].kl_nats for tried in measured.found.tried.values()}) == 1


def test_progress_counts_to_the_end(tiny_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    told = Measured(tiny_checkpoint("qwen3"), tmp_path, ("executorch",)).told
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {total for _, total in told} == {told[-1][0]}


def test_a_model_without_a_window_has_two_choices(
    tiny_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    found = Measured(tiny_checkpoint("qwen3"), tmp_path, recipe="none").found
    for tried in found.tried.values():
        assert [one.kv for one in tried] == ["float32", "int8"]
        # The weights are the float model's own.
        assert tried[0].kl_nats == pytest.approx(0, abs=1e-6)
    assert set(found.chosen) == {"executorch", "onnx"}


def test_the_text_is_the_users_or_the_built_in_one(tmp_path: Path) -> None:
    spec = BuildSpec(PICO, tmp_path / "out", ("executorch",), kv="auto")
    built_in = measured_tokens(prepare(spec))
    assert len(built_in) == 512
    users = prepare(replace(spec, calibration_text=PICO / "held_out.txt"))
    assert measured_tokens(users) == users.calibration[0][:512] != built_in
    assert len(measured_tokens(prepare(replace(spec, context_length=100)))) == 100


def test_rows_are_read_in_pieces(
    tiny_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = Measured(tiny_checkpoint("qwen3"), tmp_path, ("executorch",))
    monkeypatch.setattr("pocketlm.edge_build.kv_measuring.PIECE_ROWS", 7)
    ways = (Rounding(), Rounding("none", "qkv_per_token"))
    pieces = _Divergences(measured.prepared, measured.weights, None, ways, silent).measure()
    whole = [one.kl_nats for one in measured.found.tried["executorch"]]
    assert list(pieces.values()) == pytest.approx(whole, abs=2e-6)
