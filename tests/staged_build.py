"""A build whose stages are doubles that write a few bytes and can be made to fail."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pocketlm.edge_build import backends
from pocketlm.edge_build.backend import Artifact, Backend, LoweringInput
from pocketlm.edge_build.build import build
from pocketlm.edge_build.progress import Advance, Event, Notice
from pocketlm.edge_build.quantization.apply import QuantizedModel
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.runtime_py.components import DECODER, Component
from pocketlm.runtime_py.manifest import TensorEntry

STAGES = ["quantize", "executorch", "onnx", "golden"]


class StagedBuild:
    """A build whose stages are doubles: it records the stages that ran and can make one fail.

    Attributes:
        during: stage → what is called while it runs.
        worked: stages of the last build that ran.
    """

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        self.out = folder / "bundles" / "tiny"
        self.kept = folder / "bundles" / ".tiny.build"
        self.spec = BuildSpec(
            checkpoint=checkpoint, out=self.out, recipe="int4-g32", context_length=64, chunk=8
        )
        self.worked: list[str] = []
        self.notices: list[str] = []
        self.during: dict[str, Callable[[], object]] = {}

    def build(self, **changes: Any) -> None:
        self.worked, self.notices = [], []
        build(replace(self.spec, **changes), self._tell)

    def build_until(self, stage: str, error: BaseException) -> BaseException:
        """Build until a stage raises; return what the caller of the build sees."""
        self.during = {stage: lambda: _raise(error)}
        with pytest.raises(BaseException) as caught:
            self.build()
        self.during = {}
        assert self.worked[-1] == stage
        return caught.value

    def work(self, stage: str) -> None:
        self.worked.append(stage)
        self.during.get(stage, lambda: None)()

    def _tell(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.notices.append(event.text)

    def assert_nothing_left(self) -> None:
        assert not self.out.parent.exists()


def _raise(error: BaseException) -> None:
    raise error


def make_staged_build(folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> StagedBuild:
    """Replace the stages of `build` by doubles.

    Args:
        source: a checkpoint; what is built is a copy, which a test may change.
    """
    staged_build = StagedBuild(folder, Path(shutil.copytree(source, folder / "checkpoint")))

    def quantize(
        checkpoint: object, rules: object, folder: Path, _: Advance, *calibration: object
    ) -> QuantizedModel:
        (folder / "embed_tokens.codes.npy").write_bytes(b"codes")
        staged_build.work("quantize")
        tensor = TensorEntry("embed_tokens", (512, 64), 4, 32, 18_432, 20.3, "double")
        return QuantizedModel(WeightStore(folder, {}), (tensor,))

    def lower(name: str, source: LoweringInput, bundle: Path) -> Artifact:
        (bundle / name).mkdir()
        (bundle / name / "model").write_bytes(name.encode() * 100)
        staged_build.work(name)
        caches = source.caches.layers
        decoder = Component(DECODER, f"{name}/model", None, None, tuple(range(len(caches))))
        kinds = ("none", {}, caches, None, source.tokenizer_size, (decoder,), {})
        return Artifact(f"{name}/model", (f"{name}/model",), *kinds)  # type: ignore[arg-type]

    def record(*arguments: Any) -> Mapping[str, str]:
        artifacts, bundle = arguments[3], arguments[4]
        (bundle / "golden").mkdir()
        for name in artifacts:
            (bundle / "golden" / f"{name}.json").write_text(name)
        staged_build.work("golden")
        return {name: f"golden/{name}.json" for name in artifacts}

    def load(name: str) -> Backend:
        backend = load_real(name)
        return replace(backend, lower=lambda source, bundle: lower(name, source, bundle))

    load_real = backends.load
    monkeypatch.setattr("pocketlm.edge_build.stages.return_freed_memory", lambda: None)
    monkeypatch.setattr("pocketlm.edge_build.memory_limit.return_freed_memory", lambda: None)
    # Other runtimes take seconds to read a tokenizer.
    monkeypatch.setattr("pocketlm.edge_build.bundling.write_runner_files", lambda *arguments: None)
    monkeypatch.setattr("pocketlm.edge_build.bundling.read_alike", lambda bundle, expected: {})
    monkeypatch.setattr("pocketlm.edge_build.weight_stages.quantize_weights", quantize)
    monkeypatch.setattr("pocketlm.edge_build.build.record_golden", record)
    monkeypatch.setattr("pocketlm.edge_build.build.untouched_notes", lambda *_: ())
    monkeypatch.setattr(backends, "load", load)
    return staged_build
