"""What `fit` can plan without a build: a published shape, or a checkpoint's config.json alone."""

from pathlib import Path
from typing import TYPE_CHECKING

from pocketlm.device_tests.errors import DeviceError
from pocketlm.models import shapes
from pocketlm.models.errors import ModelError
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
    config = Path(name) / "config.json"
    is_hub_id = name not in shapes.NAMES and name.count("/") == 1 and not Path(name).exists()
    if revision is not None and not is_hub_id:
        raise DeviceError(f"--revision {revision}: {name} is no hub id; leave it out")
    if name and config.is_file():
        return _of_config(Path(name).resolve().name, config)
    if is_hub_id:
        return _of_config(name.partition("/")[2], _from_hub(name, revision))
    try:
        return shapes.load(name)
    except ModelError as error:
        raise DeviceError(f"{name}: no bundle and no checkpoint lies there, and {error}") from error


def _of_config(name: str, config: Path) -> "Shape":
    try:
        return shapes.shape_of(name, load_object(config.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, FieldError) as error:
        raise DeviceError(f"{config}: cannot be read ({error}); give a whole checkpoint") from error
    except KeyError as error:
        raise DeviceError(f"{config}: it has no {error}; give a whole checkpoint") from error


def _from_hub(name: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise DeviceError(
            f"{name}: no folder of that name, and a hub id needs huggingface_hub: "
            "pip install huggingface_hub"
        ) from error
    try:
        return Path(hf_hub_download(name, "config.json", revision=revision))
    except Exception as error:
        # Its errors are those of several libraries, and some have no words.
        said = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise DeviceError(
            f"{name}: no folder of that name, and its config.json cannot be had from the hub "
            f"({said[0]}); download it, or name a folder"
        ) from error
