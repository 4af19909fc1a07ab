"""What `fit` can plan without a build: a published shape, or a checkpoint's config.json alone."""

from pathlib import Path
from typing import TYPE_CHECKING

from pocketlm.device_tests.errors import DeviceError
from pocketlm.models import shapes
from pocketlm.models.errors import ModelError
from pocketlm.models.hub import checkpoint_name, is_checkpoint_name, resolve_config
from pocketlm.runtime_py.typed_json import FieldError, load_object

if TYPE_CHECKING:
    from pocketlm.models.shapes import Shape


def planned_shape(name: str, revision: str | None = None) -> "Shape":
    """Return the shape of a name, of a checkpoint's folder, or of a hub id.

    Args:
        revision: branch, tag or commit of a hub id.

    Raises:
        DeviceError: it is none of these, or its config.json is of no known family.
    """
    if revision is None and name in shapes.NAMES and not Path(name).exists():
        return shapes.load(name)
    if revision is None and not is_checkpoint_name(name):
        try:
            return shapes.load(name)  # names the nearest
        except ModelError as error:
            raise DeviceError(
                f"{name}: no bundle and no checkpoint lies there, and {error}"
            ) from error
    folder = Path(name)
    if not name or (folder.is_dir() and not (folder / "config.json").exists()):
        raise DeviceError(
            f"{name}: no bundle and no checkpoint lies there; give a folder that has one, a "
            f"published shape ({', '.join(shapes.NAMES)}) or a hub id"
        )
    return _of_config(resolve_config(name, revision))


def _of_config(config: Path) -> "Shape":
    name = checkpoint_name(config.parent)
    try:
        return shapes.shape_of(name, load_object(config.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, FieldError) as error:
        raise DeviceError(f"{config}: cannot be read ({error}); give a whole checkpoint") from error
    except KeyError as error:
        raise DeviceError(f"{config}: it has no {error}; give a whole checkpoint") from error
