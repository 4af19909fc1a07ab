"""One file per family; the file's name is the `model_type` in config.json."""

import importlib
import pkgutil

from pocketlm.models.errors import ModelError, nearest_and_known, shown
from pocketlm.models.family import Family, MakeLayer

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> Family:
    """Return the family of a `model_type`.

    Raises:
        ModelError: there is none; the message names the nearest and all known.
    """
    if name not in NAMES:
        raise ModelError(
            f"model_type {shown(name)} is not supported; {nearest_and_known(name, NAMES)}"
        )
    family: Family = importlib.import_module(f"{__name__}.{name}").FAMILY
    return family


def own_layer(model_type: str) -> MakeLayer | None:
    """Return what makes the layers of a family that has a class of its own for them."""
    return load(model_type).layer if model_type in NAMES else None
