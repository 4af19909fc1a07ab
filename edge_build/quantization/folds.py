"""Scales of input channels that one weight hands to those that read it, and leave a model the same.

W x = (W diag(s)) (x / s): the columns of a weight are multiplied, and what makes x is divided, a
norm or the rows of another weight. As in Lin et al., "AWQ", arXiv 2306.00978.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketlm.edge_build.calibration.measured import KvBounds
from pocketlm.edge_build.quantization import methods
from pocketlm.edge_build.quantization.recipe import QuantRule
from pocketlm.models import families
from pocketlm.models.checkpoint import Checkpoint
from pocketlm.models.config import ModelConfig


@dataclass(frozen=True)
class FoldGroup:
    """Weights that a scale of their input channels keeps together.

    Attributes:
        source: a norm, or a weight whose rows are the channels.
        readers: weights that read nothing but what `source` makes.
        heads_per_row: query heads that read one row of `source`; 1 outside of attention.
        head_dim: channels of a head, where several heads read one.
    """

    source: str
    readers: tuple[str, ...]
    heads_per_row: int = 1
    head_dim: int = 1

    @property
    def weights(self) -> tuple[str, ...]:
        """The matrices of the group: they are all quantized by a method that folds, or none is."""
        return self.readers if self.source.endswith("norm") else (self.source, *self.readers)

    def of_readers(self, scales: Tensor) -> Tensor:
        """Return the scales of the readers' columns from those of the source's rows."""
        heads = scales.reshape(-1, 1, self.head_dim)
        return heads.expand(-1, self.heads_per_row, -1).reshape(-1)

    def of_source(self, channels: Tensor) -> Tensor:
        """Return the mean, for each row of the source, over the columns that read it."""
        return channels.reshape(-1, self.heads_per_row, self.head_dim).mean(1).reshape(-1)


def possible_groups(config: ModelConfig) -> tuple[FoldGroup, ...]:
    """Return the groups that are exact for a model, in the order in which inputs arrive.

    A gate multiplies what up_proj makes, so its rows pass through; norms after attention and MLP
    stand behind the readers. Values that a later layer reads too stay as they are.
    """
    if families.own_layer(config.model_type) is not None:
        # Nobody knows what such a layer does between its weights.
        return ()
    read_later = {layer.kv_from for layer in config.layers}
    groups = []
    for index, layer in enumerate(config.layers):
        attention, mlp = f"layers.{index}.attention", f"layers.{index}.mlp"
        has_values = layer.kv_from is None
        inputs = ("q_proj", "k_proj", "v_proj") if has_values else ("q_proj",)
        readers = tuple(f"{attention}.{name}" for name in inputs)
        groups.append(FoldGroup(f"{attention}_norm", readers))
        if has_values and index not in read_later:
            per_row = layer.num_attention_heads // layer.num_key_value_heads
            readers = (f"{attention}.o_proj",)
            groups.append(FoldGroup(f"{attention}.v_proj", readers, per_row, layer.head_dim))
        groups.append(FoldGroup(f"{mlp}_norm", (f"{mlp}.gate_proj", f"{mlp}.up_proj")))
        groups.append(FoldGroup(f"{mlp}.up_proj", (f"{mlp}.down_proj",)))
    return tuple(groups)


def fold_groups(config: ModelConfig, rules: Mapping[str, QuantRule]) -> tuple[FoldGroup, ...]:
    """Return the groups whose weights all have a method that folds."""
    folding = {
        name
        for name, rule in rules.items()
        if rule.scheme is not None and methods.load(rule.scheme.method).folds
    }
    return tuple(g for g in possible_groups(config) if folding.issuperset(g.weights))


def fold_notes(config: ModelConfig, rules: Mapping[str, QuantRule]) -> tuple[str, ...]:
    """Say which weights have a method that folds and are not folded."""
    found = {name for group in fold_groups(config, rules) for name in group.readers}
    readers = [name for group in possible_groups(config) for name in group.readers]
    schemes = {name: rules[name].scheme for name in readers}
    left = [
        name
        for name, scheme in schemes.items()
        if scheme is not None and methods.load(scheme.method).folds and name not in found
    ]
    if not left:
        return ()
    return (
        f"{len(left)} weights, {left[0]} the first, keep the scales of their input channels: "
        "weights that share or make their inputs have a method that does not fold.",
    )


@dataclass(frozen=True)
class Folds:
    """The scales of every group that has any.

    Attributes:
        scales: [channels] float32, positive, of the source's rows; by the source's name.
    """

    groups: tuple[FoldGroup, ...]
    scales: Mapping[str, NDArray[np.float32]]

    def columns(self, name: str) -> Tensor | None:
        """Return what the columns of a weight are multiplied by."""
        for group in self.groups:
            if name in group.readers and group.source in self.scales:
                return group.of_readers(torch.from_numpy(self.scales[group.source]))
        return None

    def rows(self, name: str) -> Tensor | None:
        """Return what the rows of a weight, or the elements of a norm, are divided by."""
        scales = self.scales.get(name)
        return None if scales is None else torch.from_numpy(scales)

    def of_kv_bounds(self, bounds: KvBounds, config: ModelConfig) -> KvBounds:
        """Return the bounds of the folded model's keys and values from the model's own."""
        values = []
        for layer, found in zip(config.cached_layers, bounds.values, strict=True):
            scales = self.scales.get(f"layers.{layer}.attention.v_proj")
            values.append(found if scales is None else found / scales.reshape(found.shape))
        return replace(bounds, values=tuple(values))


NO_FOLDS = Folds((), {})


@dataclass(frozen=True)
class FoldedCheckpoint(Checkpoint):
    """A checkpoint whose weights and norms are folded while they are read.

    It computes what the checkpoint does. `tensors` and `digest` are the checkpoint's own.
    """

    folds: Folds = field(default=NO_FOLDS)

    @classmethod
    def of(cls, checkpoint: Checkpoint, folds: Folds) -> Self:
        """Return a folded view."""
        return cls(
            checkpoint.folder,
            checkpoint.config_json,
            checkpoint.config,
            checkpoint.notes,
            checkpoint.tensors,
            checkpoint.text_files,
            folds,
        )

    def read_rows(self, name: str, start: int, stop: int) -> Tensor:
        """Return rows start..stop in float32, folded."""
        rows = super().read_rows(name, start, stop)
        columns, divisors = self.folds.columns(name), self.folds.rows(name)
        if columns is not None:
            rows *= columns
        if divisors is not None:
            block = divisors[start:stop]
            rows /= block if rows.ndim == 1 else block[:, None]
        return rows
