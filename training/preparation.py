"""Checks all input of a training before it writes a byte, and keeps what it read."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from pocketlm.edge_build.build_key import build_key
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.preparation import Preparation, prepare
from pocketlm.edge_build.prompts import open_tokenizer
from pocketlm.edge_build.spec import DEFAULT_CALIBRATION_TOKENS
from pocketlm.edge_build.text.checkpoint_files import CheckpointFiles
from pocketlm.edge_build.text_files import read_text_files
from pocketlm.models.checkpoint import Checkpoint, open_checkpoint
from pocketlm.runtime_py.tokenizer import Tokenizer
from pocketlm.training.exporting import refuse_unwritable
from pocketlm.training.spec import DEFAULT_METHOD, QatSpec
from pocketlm.training.training_text import TrainingText, read_training_text

# Rows of held-out sequences that both tokenizers must read alike.
_COMPARED_CHARACTERS = 100_000


@dataclass(frozen=True)
class QatPreparation:
    """A checked training.

    Attributes:
        start: the build whose first stages choose the codes to start from.
        teacher: the student's own checkpoint, or another.
    """

    spec: QatSpec
    start: Preparation
    teacher: Checkpoint
    text: TrainingText

    @cached_property
    def teacher_sha256(self) -> str:
        """The digest of the teacher's weights, if it is not the student's own checkpoint."""
        return "" if self.teacher is self.start.checkpoint else self.teacher.digest()

    def key(self, checkpoint_sha256: str) -> str:
        """Return the digest of everything that determines what the training makes."""
        spec = self.spec
        text = hashlib.sha256()
        for part in (self.text.train, self.text.held_out):
            text.update(part.numpy().tobytes())
        determining = {
            "start": build_key(self.start, checkpoint_sha256),
            "teacher": self.teacher_sha256,
            "text": text.hexdigest(),
            "spec": {
                name: value
                for name, value in asdict(spec).items()
                if name in ("targets", "steps", "batch", "learning_rate", "precision", "seed")
            },
        }
        return hashlib.sha256(json.dumps(determining, sort_keys=True).encode()).hexdigest()


def prepare_training(spec: QatSpec) -> QatPreparation:
    """Check everything that can be checked before weights are read.

    Raises:
        ModelError, BuildError: the checkpoints, the text or the options do not allow it.
    """
    is_own_recipe = spec.recipe is not None and spec.recipe.endswith(".toml")
    method = spec.method or (None if is_own_recipe else DEFAULT_METHOD)
    start = prepare(replace(spec, method=method).start)
    if not any(rule.scheme for rule in start.rules.values()):
        raise BuildError(
            f"--recipe {start.recipe.name}: keeps float32, so there is nothing to train; take "
            "another recipe"
        )
    refuse_unwritable(start.checkpoint, start.rules)
    longest = start.checkpoint.config.max_position_embeddings
    if spec.sequence_length > longest:
        raise BuildError(
            f"--sequence-length {spec.sequence_length}: the model has {longest} positions; give "
            "that or less"
        )
    tokenizer = open_tokenizer(start.text)
    text = read_training_text(spec.text, tokenizer, spec.sequence_length, spec.seed)
    teacher = start.checkpoint
    if spec.teacher is not None:
        teacher = open_checkpoint(spec.teacher)
        _require_same_tokens(spec, teacher, start.checkpoint, tokenizer)
    if start.weights_with_text:
        start = replace(start, calibration=_calibration(text))
    return QatPreparation(spec, start, teacher, text)


def _calibration(text: TrainingText) -> tuple[tuple[int, ...], ...]:
    """Return the first sequences of the training, for methods that need data."""
    count = max(1, DEFAULT_CALIBRATION_TOKENS // text.train.shape[1])
    rows = text.batch(0, min(count, len(text.train)))
    return tuple(tuple(row) for row in rows.tolist())


def _require_same_tokens(
    spec: QatSpec, teacher: Checkpoint, student: Checkpoint, tokenizer: Tokenizer
) -> None:
    """Refuse a teacher whose probabilities are of other tokens."""
    sizes = (teacher.config.vocab_size, student.config.vocab_size)
    if sizes[0] != sizes[1]:
        raise BuildError(
            f"--teacher {spec.teacher}: has {sizes[0]:,} tokens, the student {sizes[1]:,}; its "
            "probabilities must be of the same tokens: give a model with the same tokenizer"
        )
    theirs = open_tokenizer(read_text_files(CheckpointFiles.of(teacher), teacher.config))
    sample = spec.text.read_text(encoding="utf-8-sig")[:_COMPARED_CHARACTERS]
    ours, other = tokenizer.encode(sample), theirs.encode(sample)
    if ours != other:
        place = next(
            (i for i, (a, b) in enumerate(zip(ours, other, strict=False)) if a != b),
            min(len(ours), len(other)),
        )
        raise BuildError(
            f"--teacher {spec.teacher}: reads --text otherwise than the student, from token "
            f"{place} on; give a model with the same tokenizer"
        )
