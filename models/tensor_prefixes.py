"""Under which prefix a checkpoint's names stand: wrappers of training tools put theirs before all.

torch.compile writes "_orig_mod.", DataParallel "module.", peft "base_model.model.", and models with
vision "language_model."; a bare model leaves "model." out.
"""

from collections.abc import Collection
from dataclasses import dataclass

from pocketlm.models.family import Family
from pocketlm.models.tensor_views import PublishedNames, published_name

_TABLE, _HEAD = "embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True)
class Spelling:
    """How a checkpoint spells a family's names.

    Attributes:
        names: our name → theirs, as `Family.tensor_names`.
        outer: what stands before names that are not the decoder's, such as a vision tower's.
        notes: what a build prints for the user.
    """

    names: PublishedNames
    outer: str = ""
    notes: tuple[str, ...] = ()


def find_spelling(family: Family, stored: Collection[str]) -> Spelling:
    """Return the family's spelling that the checkpoint has, or one under another prefix."""
    spellings = (family.tensor_names, *family.other_tensor_names)
    for names in spellings:
        if published_name(names, "embed_tokens") in stored:
            return Spelling(names)
    tables = _ending(stored, _TABLE)
    if len(tables) != 1:
        return Spelling(family.tensor_names)
    found = tables[0].removesuffix(_TABLE)
    prefixes = [published_name(names, "embed_tokens").removesuffix(_TABLE) for names in spellings]
    outer = next((found.removesuffix(own) for own in prefixes if found.endswith(own)), "")
    own = prefixes[0]
    heads = _ending(stored, _HEAD)

    def renamed(name: str) -> str:
        return found + name.removeprefix(own)

    names = {
        ours: renamed(theirs) if isinstance(theirs, str) else theirs.renamed(renamed)
        for ours, theirs in family.tensor_names.items()
    }
    names["lm_head"] = heads[0] if len(heads) == 1 else outer + _HEAD
    note = f"The weights are read under {found!r}, which their names have instead of {own!r}."
    return Spelling(names, outer, (note,))


def _ending(stored: Collection[str], end: str) -> list[str]:
    return [name for name in stored if f".{name}".endswith(f".{end}")]
