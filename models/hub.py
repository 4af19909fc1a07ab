"""From what a user calls a checkpoint to a folder: a path, or an id on the Hugging Face Hub."""

import logging
import re
from pathlib import Path

from models import shapes
from models.errors import ModelError

_LOG = logging.getLogger("pocketlm.hub")

# No pickle: opening one runs code.
_WANTED = ("*.json", "*.safetensors", "tokenizer.model", "*.jinja")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def resolve(checkpoint: str) -> Path:
    """Return the folder of a checkpoint, downloading it where it is an id like "org/name".

    Raises:
        ModelError: neither a folder nor a reachable id; says what to do.
    """
    folder = Path(checkpoint)
    if folder.is_dir():
        return folder
    if folder.exists():
        gguf = folder.suffix.lower() == ".gguf"
        found = "a GGUF file, which is quantized already" if gguf else "a file"
        raise ModelError(
            f"{checkpoint}: {found}; give the folder of the checkpoint, with config.json and "
            "safetensors"
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
    return _download(checkpoint)


def checkpoint_name(folder: Path) -> str:
    """Return what people call a checkpoint: its folder's name, or its repository's in a cache.

    The Hugging Face Hub's cache is models--ORG--NAME/snapshots/COMMIT, and a commit says nothing.
    """
    parts = folder.absolute().parts
    if len(parts) > 2 and parts[-2] == "snapshots" and parts[-3].startswith("models--"):
        return parts[-3].split("--")[-1]
    return folder.resolve().name


def _download(hub_id: str) -> Path:
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as error:
        raise ModelError(
            f"{hub_id}: no such folder, and downloading needs the package huggingface_hub; "
            "install it, or give a folder"
        ) from error
    _LOG.info("%s: asking the Hugging Face Hub", hub_id)
    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(_WANTED)))
    except errors.RepositoryNotFoundError as error:  # a gated repository is one of these
        raise ModelError(
            f"{hub_id}: no such folder, and on the Hugging Face Hub it is absent or not open to "
            "you; check the spelling, accept the model's terms on its page, and log in with "
            "`hf auth login`"
        ) from error
    except (OSError, ValueError, errors.HfHubHTTPError) as error:
        raise ModelError(
            f"{hub_id}: no such folder, and the Hugging Face Hub could not be reached "
            f"({type(error).__name__}); check the network, or give a folder"
        ) from error
