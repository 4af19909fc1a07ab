"""Published models' config.json files, for planning and for random-weight checkpoints.

A shape has no weights. One JSON file per shape; `pocketlm_note` in it labels a stand-in.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketlm.models import families
from pocketlm.models.config import ModelConfig
from pocketlm.models.errors import ModelError, nearest_and_known

_FOLDER = Path(__file__).parent

NAMES = tuple(sorted(path.name.removesuffix(".json") for path in _FOLDER.glob("*.json")))


@dataclass(frozen=True)
class Shape:
    """One published model without weights.

    Attributes:
        published: its config.json.
    """

    name: str
    published: Mapping[str, Any]
    config: ModelConfig

    @property
    def model_type(self) -> str:
        return str(self.published["model_type"])

    @property
    def note(self) -> str:
        """What a user should know of it, empty for a published model."""
        return str(self.published.get("pocketlm_note", ""))


def load(name: str) -> Shape:
    """Return a shape by name.

    Raises:
        ModelError: there is none; the message names the nearest and all known.
    """
    if name not in NAMES:
        raise ModelError(f"shape {name!r} is unknown; {nearest_and_known(name, NAMES)}")
    return shape_of(name, json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8")))


def shape_of(name: str, published: Mapping[str, Any]) -> Shape:
    """Make a shape of any published config, for one that is not in this folder."""
    family = families.load(str(published["model_type"]))
    return Shape(name, published, family.read_config(published))


def with_layers(shape: Shape, layers: int) -> Shape:
    """Return the shape cut to its first layers, in config.json's own keys."""
    most = shape.config.num_layers
    if not 1 <= layers <= most:
        raise ModelError(f"--layers {layers}: {shape.name} has {most}; give 1 to {most}")
    published = dict(shape.published)
    if "text_config" in published:
        published["text_config"] = _cut(published["text_config"], layers)
    else:
        published = _cut(published, layers)
    return shape_of(shape.name, published)


def _cut(published: Mapping[str, Any], layers: int) -> dict[str, Any]:
    cut = {**published, "num_hidden_layers": layers}
    if cut.get("layer_types") is not None:
        cut["layer_types"] = list(cut["layer_types"])[:layers]
    return cut
