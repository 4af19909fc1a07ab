"""QatSpec: one training in one value."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.runtime_py.kv_choice import KvName

Precision = Literal["float32", "bfloat16"]
# Starts nearest to the float model of all methods, so that few steps are needed.
DEFAULT_METHOD = "gptq"
DEFAULT_STEPS = 200
DEFAULT_BATCH = 8
DEFAULT_SEQUENCE_LENGTH = 512
# In codes: a position moves by so much of a step of its grid at most, each time.
DEFAULT_LEARNING_RATE = 0.002
DEFAULT_SAVE_EVERY = 20


@dataclass(frozen=True)
class QatSpec:
    """What to train.

    Attributes:
        checkpoint: the student, and its teacher where there is no other.
        out: checkpoint folder to make; must not exist.
        text: file to read; the last sequences of it are held out.
        recipe, method, backends, kv, tokenizer: as in BuildSpec. Training starts from what the
            method chooses, and rounds activations and caches as the backends do, in turn.
        teacher: a checkpoint with the same tokenizer; None is the student before it was quantized.
        targets: tokens that are drawn of the teacher's distribution at each place; None takes all.
        batch: sequences of a step, over all processes.
        learning_rate: in codes, of the steps in the middle (`training/schedule.py`).
        precision: of the products of matrices.
        device: "cpu", "cuda", or None for what there is.
        save_every: steps after which an interrupted training can go on.
        fresh: start over even if an interrupted training could go on.
    """

    checkpoint: Path
    out: Path
    text: Path
    recipe: str | None = None
    method: str | None = None
    backends: tuple[str, ...] = ()
    kv: KvName = "float32"
    tokenizer: Path | None = None
    teacher: Path | None = None
    targets: int | None = None
    steps: int = DEFAULT_STEPS
    batch: int = DEFAULT_BATCH
    sequence_length: int = DEFAULT_SEQUENCE_LENGTH
    learning_rate: float = DEFAULT_LEARNING_RATE
    precision: Precision = "float32"
    device: str | None = None
    seed: int = 0
    save_every: int = DEFAULT_SAVE_EVERY
    fresh: bool = False

    def __post_init__(self) -> None:
        if self.targets is not None and self.targets < 1:
            raise BuildError(f"--targets {self.targets}: give 'full', or 1 or more tokens")
        if not 0 < self.learning_rate <= 1:
            raise BuildError(
                f"--learning-rate {self.learning_rate:g}: is a share of a code, above 0 and at "
                f"most 1; the default is {DEFAULT_LEARNING_RATE:g}"
            )
        if self.sequence_length < 2:
            raise BuildError(f"--sequence-length {self.sequence_length}: must be 2 or more")

    @property
    def start(self) -> BuildSpec:
        """The build whose first stages choose the codes that training starts from."""
        return BuildSpec(
            self.checkpoint,
            self.out,
            backends=self.backends,
            recipe=self.recipe,
            method=self.method,
            kv=self.kv,
            tokenizer=self.tokenizer,
            fresh=self.fresh,
        )
