"""What an engine's apps.py must offer: one constant, APPS, with an entry for each kind of app."""

from collections.abc import Mapping
from dataclasses import dataclass

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class AppRuntime:
    """What an app runs a bundle with.

    Attributes:
        backend: whose artifact it opens.
        next_step: what the app's code does; "{model}" is the artifact's path, "{NAME}" the least
            version of distribution NAME.
        text_files: of those at the top of the bundle, what it reads where the backend's own folder
            has no tokenizer.
        needs: files at the top that the bundle must have, each with what to do where it has not.
        keeps_folders: whether the files lie as in the bundle, since one names another by its
            path; else they all lie at the top.
        takes_max_length: whether the app sizes the caches itself.
    """

    backend: str
    next_step: str
    text_files: tuple[str, ...] = (TOKENIZER,)
    needs: Mapping[str, str] | None = None
    keeps_folders: bool = False
    takes_max_length: bool = False
