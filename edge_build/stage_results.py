"""How the result of each stage of a build is kept, so that a later run can take it over."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_build.backend import Artifact
from edge_build.kv_scales import KvScales
from edge_build.quantization.apply import QuantizedModel
from edge_build.quantization.recipe import QuantRule
from edge_build.quantization.weight import WeightStore
from edge_build.stages import ResultFormat
from runtime_py.manifest import TensorEntry
from runtime_py.typed_json import read_as


@dataclass(frozen=True)
class _Tensors:
    tensors: tuple[TensorEntry, ...]


def quantized_format(rules: Mapping[str, QuantRule]) -> ResultFormat[QuantizedModel]:
    """Keep what became of each tensor; the store is the stage's folder."""

    def read(document: Mapping[str, Any], folder: Path) -> QuantizedModel:
        schemes = {name: rule.scheme for name, rule in rules.items()}
        return QuantizedModel(WeightStore(folder, schemes), read_as(_Tensors, document).tensors)

    return ResultFormat(lambda model, folder: asdict(_Tensors(model.tensors)), read)


def _write_scales(scales: KvScales | None, folder: Path) -> Mapping[str, Any]:
    if scales is not None:
        np.save(folder / "keys.npy", scales.keys)
        np.save(folder / "values.npy", scales.values)
    return {"has_scales": scales is not None}


def _read_scales(document: Mapping[str, Any], folder: Path) -> KvScales | None:
    if not document["has_scales"]:
        return None
    return KvScales(np.load(folder / "keys.npy"), np.load(folder / "values.npy"))


KV_SCALES: ResultFormat[KvScales | None] = ResultFormat(_write_scales, _read_scales)

ARTIFACT: ResultFormat[Artifact] = ResultFormat(
    lambda artifact, folder: asdict(artifact),
    lambda document, folder: read_as(Artifact, document),
)

GOLDENS: ResultFormat[Mapping[str, str]] = ResultFormat(
    lambda goldens, folder: dict(goldens),
    lambda document, folder: dict(document),
)
