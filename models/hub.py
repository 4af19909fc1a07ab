"""From what a user calls a checkpoint to a path: a folder, a GGUF file, or a Hugging Face id."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pocketlm.models import shapes
from pocketlm.models.errors import ModelError

_LOG = logging.getLogger("pocketlm.hub")

# No pickle: opening one runs code.
_WANTED = ("*.json", "*.safetensors", "tokenizer.model", "*.jinja")
# The embedded model; a folder of this name wins.
_PICO = Path(__file__).parent / "pico"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class HubOrigin:
    """Where on the Hugging Face Hub a folder came from: "org/name", and the commit."""

    hub_id: str
    commit: str


def resolve(checkpoint: str, revision: str | None = None) -> Path:
    """Return the folder of a checkpoint, downloading it where it is an id like "org/name".

    A GGUF file is a checkpoint by itself: its path is returned.

    Args:
        checkpoint: a folder, a GGUF file, an id, or "pico", the embedded model.
        revision: branch, tag or commit of an id; None is its main branch.

    Raises:
        ModelError: neither a folder nor a reachable id; says what to do.
    """
    _check_revision(checkpoint, revision)
    folder = Path(checkpoint)
    if folder.is_dir() or is_gguf(folder):
        return folder
    if checkpoint == _PICO.name and not folder.exists():
        return _PICO
    if folder.exists():
        raise ModelError(
            f"{checkpoint}: a file; give the folder of the checkpoint, with config.json and "
            "safetensors, or a file that ends in .gguf"
        )
    if checkpoint in shapes.NAMES:
        raise ModelError(
            f"{checkpoint}: a published shape, no checkpoint; give a folder or a Hugging Face id "
            f"with its weights, try random ones with pocketlm checkpoint {checkpoint} --random "
            f"--out DIR, or predict its memory with pocketlm fit {checkpoint}"
        )
    if not _HUB_ID.fullmatch(checkpoint):
        raise ModelError(
            f"{checkpoint}: no such folder; give a folder with config.json and weights, "
            'or a Hugging Face id such as "org/name"'
        )
    return _download(checkpoint, revision)


def is_checkpoint_name(text: str) -> bool:
    """Say whether text can name a checkpoint: a folder, a GGUF file, "pico", or a hub id."""
    here = Path(text).is_dir() or is_gguf(Path(text))
    return here or text == _PICO.name or _HUB_ID.fullmatch(text) is not None


def resolve_config(checkpoint: str, revision: str | None = None) -> Path:
    """Return the config.json of a checkpoint, downloading that file alone of a hub id.

    Args:
        checkpoint, revision: as resolve() takes them.

    Raises:
        ModelError: neither a folder nor a reachable id; says what to do.
    """
    is_here = Path(checkpoint).exists() or checkpoint == _PICO.name
    if not is_here and _HUB_ID.fullmatch(checkpoint):
        with _asking_hub(checkpoint, revision):
            from huggingface_hub import hf_hub_download

            return Path(hf_hub_download(checkpoint, "config.json", revision=revision))
    path = resolve(checkpoint, revision) / "config.json"
    if not path.is_file():
        raise ModelError(
            f"{checkpoint}: no config.json in it; give a checkpoint folder in Hugging Face format"
        )
    return path


def tensors_on_hub(origin: HubOrigin) -> list[tuple[str, tuple[int, ...]]]:
    """Return dtype and shape of each weight of a hub id; reads headers, downloads no weight.

    Raises:
        ModelError: the hub cannot be reached, or has no safetensors there.
    """
    with _asking_hub(origin.hub_id, origin.commit):
        from huggingface_hub import get_safetensors_metadata

        files = get_safetensors_metadata(origin.hub_id, revision=origin.commit).files_metadata
    tensors = (tensor for file in files.values() for tensor in file.tensors.values())
    return [(tensor.dtype, tuple(tensor.shape)) for tensor in tensors]


def checkpoint_name(folder: Path) -> str:
    """Return what people call a checkpoint: its folder's name, or its repository's in a cache.

    The Hugging Face Hub's cache is models--ORG--NAME/snapshots/COMMIT, and a commit says nothing.
    """
    if is_gguf(folder):
        return folder.stem
    origin = hub_origin(folder)
    return folder.resolve().name if origin is None else origin.hub_id.rpartition("/")[2]


def hub_origin(folder: Path) -> HubOrigin | None:
    """Return where a folder of the Hugging Face Hub's cache came from; None for any other."""
    *_, repository, snapshots, commit = ("", "", *folder.absolute().parts)
    kind, *names = repository.split("--")
    if snapshots != "snapshots" or kind != "models" or not names:
        return None
    return HubOrigin("/".join(names), commit)


def is_gguf(path: Path) -> bool:
    """Say whether a path is a GGUF file, by its name."""
    return path.suffix.lower() == ".gguf" and path.is_file()


def _check_revision(checkpoint: str, revision: str | None) -> None:
    is_here = Path(checkpoint).exists() or checkpoint == _PICO.name
    if revision is not None and (is_here or not _HUB_ID.fullmatch(checkpoint)):
        raise ModelError(
            f"--revision {revision}: {checkpoint} is no id on the Hugging Face Hub, and only these "
            "have revisions; leave it out"
        )


def _download(hub_id: str, revision: str | None) -> Path:
    with _asking_hub(hub_id, revision):
        from huggingface_hub import snapshot_download

        _LOG.info("%s, revision %s: asking the Hugging Face Hub", hub_id, revision or "main")
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(_WANTED)))


@contextmanager
def _asking_hub(hub_id: str, revision: str | None) -> Iterator[None]:
    """Say in words why the hub did not answer."""
    try:
        from huggingface_hub import errors
    except ImportError as error:
        raise ModelError(
            f"{hub_id}: no such folder, and downloading needs the package huggingface_hub; "
            "install it, or give a folder"
        ) from error
    try:
        yield
    except errors.RepositoryNotFoundError as error:  # a gated repository is one of these
        raise ModelError(
            f"{hub_id}: no such folder, and on the Hugging Face Hub it is absent or not open to "
            "you; check the spelling, accept the model's terms on its page, and log in with "
            "`hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(
            f"--revision {revision}: {hub_id} has no such branch, tag or commit; look at its files "
            "on the Hugging Face Hub, or leave it out"
        ) from error
    except (errors.EntryNotFoundError, errors.NotASafetensorsRepoError) as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise _unreachable(hub_id, error) from error
        raise ModelError(
            f"{hub_id}: its repository has no config.json with safetensors at its top; look at its "
            "files on the Hugging Face Hub, or give a folder"
        ) from error
    except (OSError, ValueError, errors.HfHubHTTPError) as error:
        raise _unreachable(hub_id, error) from error


def _unreachable(hub_id: str, error: Exception) -> ModelError:
    return ModelError(
        f"{hub_id}: no such folder, and the Hugging Face Hub could not be reached "
        f"({type(error).__name__}); check the network, or give a folder"
    )
