"""How the result of each stage of a build is kept, so that a later run can take it over."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pocketlm.edge_build.backend import Artifact
from pocketlm.edge_build.calibration.measured import CalibrationStore, Statistic
from pocketlm.edge_build.kv_measuring import KvMeasurements
from pocketlm.edge_build.quantization.apply import QuantizedModel
from pocketlm.edge_build.quantization.fold_search import read_folds
from pocketlm.edge_build.quantization.folds import FoldGroup, Folds
from pocketlm.edge_build.quantization.recipe import QuantRule
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.edge_build.stages import ResultFormat
from pocketlm.runtime_py.manifest import TensorEntry
from pocketlm.runtime_py.typed_json import read_as


@dataclass(frozen=True)
class _Tensors:
    tensors: tuple[TensorEntry, ...]


def quantized_format(rules: Mapping[str, QuantRule]) -> ResultFormat[QuantizedModel]:
    """Keep what became of each tensor; the store is the stage's folder."""

    def read(document: Mapping[str, Any], folder: Path) -> QuantizedModel:
        schemes = {name: rule.scheme for name, rule in rules.items()}
        return QuantizedModel(WeightStore(folder, schemes), read_as(_Tensors, document).tensors)

    return ResultFormat(lambda model, folder: asdict(_Tensors(model.tensors)), read)


def calibration_format(statistics: tuple[Statistic, ...]) -> ResultFormat[CalibrationStore]:
    """The store is the stage's folder."""
    return ResultFormat(
        lambda store, folder: {}, lambda document, folder: CalibrationStore(folder, statistics)
    )


def folds_format(groups: Sequence[FoldGroup]) -> ResultFormat[Folds]:
    """The scales lie in the stage's folder."""
    return ResultFormat(
        lambda folds, folder: {}, lambda document, folder: read_folds(groups, folder)
    )


ARTIFACT: ResultFormat[Artifact] = ResultFormat(
    lambda artifact, folder: asdict(artifact),
    lambda document, folder: read_as(Artifact, document),
)

KV: ResultFormat[KvMeasurements] = ResultFormat(
    lambda measured, folder: asdict(measured),
    lambda document, folder: read_as(KvMeasurements, document),
)

GOLDENS: ResultFormat[Mapping[str, str]] = ResultFormat(
    lambda goldens, folder: dict(goldens),
    lambda document, folder: dict(document),
)
