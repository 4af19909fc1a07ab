"""What single weights cost, kept in the user's cache: a plan that was killed goes on.

The same measurements serve every budget, also that of a build.
"""

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pocketlm.edge_build.calibration.measured import Sequences
from pocketlm.edge_build.installation import tool_versions
from pocketlm.edge_build.mixed_precision.sensitivity import Sensitivity
from pocketlm.edge_build.program_digest import program_digest
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.edge_build.whole_file import write_whole
from pocketlm.runtime_py.typed_json import FieldError, load_object, read_as
from pocketlm.runtime_py.user_cache import cache_folder

_LOG = logging.getLogger("pocketlm.build")
SENSITIVITIES = "sensitivities"
_MOST_KEPT = 50
_TOKENS_NAME = "tokens.json"
_END = ".cost.json"
_PROGRAM = "pocketlm.edge_build.mixed_precision.planning"


@dataclass(frozen=True)
class _Cost:
    kl_nats: float
    errors: tuple[float, ...]


@dataclass(frozen=True)
class KeptSensitivities:
    """One file a weight, written whole.

    Attributes:
        schemes: of each weight; a file holds one error for each.
    """

    folder: Path
    schemes: Mapping[str, tuple[QuantScheme, ...]]

    def read(self, name: str) -> Sensitivity | None:
        """Return what a weight costs; None where it is missing or damaged."""
        offered = self.schemes[name]
        try:
            cost = read_as(_Cost, load_object(self._path(name).read_text(encoding="ascii")))
        except (OSError, ValueError, FieldError):
            return None
        numbers = (cost.kl_nats, *cost.errors)
        if len(cost.errors) != len(offered) or not all(0 <= x < math.inf for x in numbers):
            return None
        errors = dict(zip(offered, cost.errors, strict=True))
        return Sensitivity(offered[0], cost.kl_nats, errors)

    def write(self, name: str, found: Sensitivity) -> None:
        """Keep what a weight costs; where that fails, planning goes on without."""
        errors = tuple(found.errors[scheme] for scheme in self.schemes[name])
        self._write(self._path(name), json.dumps(asdict(_Cost(found.kl_nats, errors))))

    def read_text(self) -> Sequences | None:
        """Return text of the model's own that was sampled before."""
        try:
            document = json.loads((self.folder / _TOKENS_NAME).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        is_text = isinstance(document, list) and all(
            isinstance(tokens, list) and tokens and all(type(token) is int for token in tokens)
            for tokens in document
        )
        return tuple(map(tuple, document)) if is_text and document else None

    def write_text(self, sequences: Sequences) -> None:
        """Keep text of the model's own."""
        self._write(self.folder / _TOKENS_NAME, json.dumps(sequences))

    def folds_folder(self, otherwise: Path) -> Path:
        """Return where scales of input channels are kept; `otherwise` where nothing can be."""
        folder = self.folder / "folds"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return otherwise
        return folder

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{_END}"

    def _write(self, path: Path, text: str) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, text)
        except OSError as error:
            _LOG.warning(
                "%s: what is measured cannot be kept (%s); if this run is interrupted, the next "
                "one measures again",
                self.folder,
                error.strerror,
            )


def kept_sensitivities(
    checkpoint_sha256: str,
    sequences: Sequences | None,
    schemes: Mapping[str, tuple[QuantScheme, ...]],
) -> KeptSensitivities:
    """Return what is kept of a plan, in the user's cache; makes room for it.

    Args:
        sequences: the text; None is the model's own, which the checkpoint determines.
    """
    determining = {
        "checkpoint": checkpoint_sha256,
        "sequences": sequences,
        "schemes": {name: list(map(asdict, offered)) for name, offered in schemes.items()},
        "tools": tool_versions(),
        "program": program_digest(_PROGRAM),
    }
    key = hashlib.sha256(json.dumps(determining, sort_keys=True).encode()).hexdigest()
    home = cache_folder() / SENSITIVITIES
    with suppress(OSError):
        by_age = sorted(home.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in by_age[:-_MOST_KEPT]:
            if old.name != key:
                shutil.rmtree(old, ignore_errors=True)
    return KeptSensitivities(home / key, schemes)
