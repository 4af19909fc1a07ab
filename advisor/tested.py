"""What candidates are measured against and with: the checkpoint in float32, and passages."""

from dataclasses import dataclass, replace
from pathlib import Path

from pocketlm.edge_build.spec import BuildSpec
from pocketlm.evaluation.passages import Passage
from pocketlm.evaluation.source import Source
from pocketlm.evaluation.subject import Subject, checkpoint_subject
from pocketlm.models.checkpoint import open_checkpoint

# A hidden state is some kilobytes.
_MOST_REMEMBERED_TOKENS = 16_384


@dataclass(frozen=True)
class Tested:
    """The same for every candidate, so that figures can be compared."""

    reference: Subject
    passages: tuple[Passage, ...]

    @property
    def tokens(self) -> int:
        """Tokens that are measured."""
        return sum(len(passage.places) for passage in self.passages)


def tested(
    checkpoint: Path, text: Path, context_length: int | None, tokens: int, threads: int | None
) -> Tested:
    """Open a checkpoint and cut a text for it.

    Args:
        context_length: of the bundles; None is what a build takes.
        tokens: that are measured at most.

    Raises:
        ModelError, BuildError, RunError: one of them cannot be used.
    """
    source = Source.read(text, None)
    longest = open_checkpoint(checkpoint).config.max_position_embeddings
    context = BuildSpec(checkpoint, Path(), context_length=context_length).resolved_context(longest)
    # Each candidate is compared with the same rows.
    remembers = tokens <= _MOST_REMEMBERED_TOKENS
    reference = checkpoint_subject(str(checkpoint), threads, remembers=remembers)
    reference = replace(reference, longest=min(reference.longest, context))
    return Tested(reference, tuple(source.passages(reference, None, tokens)))
