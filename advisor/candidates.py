"""What is compared: the default recipes with reasons, and names that users give."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.quantization import methods, recipes
from pocketlm.edge_build.quantization.own_recipe import OWN_RECIPE
from pocketlm.runtime_py.errors import RunError, unknown_name

_SEPARATOR = "+"
_RECIPE_FILE = ".toml"


@dataclass(frozen=True)
class Candidate:
    """One artifact that could ship.

    Attributes:
        recipe: its name, or the whole path of a .toml file.
        method: how codes and scales are chosen; None is the recipe's own.
    """

    recipe: str
    method: str | None
    backend: str

    @property
    def quantization(self) -> str:
        """The recipe and the method, as `--candidates` takes them; of a file its name."""
        recipe = Path(self.recipe).name
        return recipe if self.method is None else f"{recipe}{_SEPARATOR}{self.method}"

    @property
    def name(self) -> str:
        return f"{self.quantization} on {self.backend}"


@dataclass(frozen=True)
class DefaultCandidate:
    """A recipe and a method that are compared where the user names none, and why."""

    quantization: str
    reason: str


# The only list; docs/advise.md shows it.
DEFAULTS = (
    DefaultCandidate(
        OWN_RECIPE, "keeps the codes of a checkpoint that is quantized; left out where it is not"
    ),
    DefaultCandidate("int8-channel", "8 bits everywhere: closest to the checkpoint, and largest"),
    DefaultCandidate(
        "int8-head4+gptq",
        "calibrated; 8 bits in the layers, 4 in the table, of which a token reads one row",
    ),
    DefaultCandidate(
        "int8-head4", "only its table calibrated, in seconds: what a build makes by default"
    ),
    DefaultCandidate(
        "int4-g32-head8+gptq", "4 bits, calibrated; the table, which every logit reads, in 8 bits"
    ),
    DefaultCandidate("int4-g32+gptq", "4 bits everywhere, calibrated"),
    DefaultCandidate("int4-g32", "the same without calibration, which takes minutes less"),
    DefaultCandidate("int4-g128+gptq", "fewest scales: the smallest, and the fastest to decode"),
)


def candidates(named: Sequence[str], backends: Iterable[str]) -> tuple[Candidate, ...]:
    """Return each recipe and method on each backend.

    Args:
        named: RECIPE or RECIPE+METHOD; empty is every default.

    Raises:
        RunError: a recipe or a method is unknown, or a recipe file cannot be used.
    """
    wanted = named or [default.quantization for default in DEFAULTS]
    parsed = [_parse(text) for text in wanted]
    found = (Candidate(*pair, backend) for backend in backends for pair in parsed)
    return tuple(dict.fromkeys(found))


def _parse(text: str) -> tuple[str, str | None]:
    """Return recipe and method of a name."""
    recipe, plus, method = text.rpartition(_SEPARATOR)
    if not plus or method.endswith(_RECIPE_FILE):
        # A plus in the path of a file.
        recipe, method = text, ""
    elif method not in methods.names():
        raise RunError(unknown_name(f"--candidates {text}: method", method, methods.names()))
    if recipe.endswith(_RECIPE_FILE):
        try:
            recipes.load(recipe)
        except BuildError as error:
            raise RunError(f"--candidates {text}: {error}") from error
        # Another machine has another working folder.
        recipe = str(Path(recipe).absolute())
    elif recipe not in (*recipes.NAMES, OWN_RECIPE):
        known = unknown_name("--candidates", recipe, (*recipes.NAMES, OWN_RECIPE))
        raise RunError(f"{known}; each alone, with +METHOD, or the path of a .toml file")
    return recipe, method or None
