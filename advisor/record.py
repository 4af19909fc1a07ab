"""What was measured of one candidate, as one JSON document."""

import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from pocketlm.evaluation.result import EvalResult
from pocketlm.runtime_py.typed_json import load_object, read_as

_MODEL_NAMES = ("model name", "Model", "Hardware")


@dataclass(frozen=True)
class Machine:
    """Where a speed was measured.

    Attributes:
        threads: that computed.
    """

    host: str
    processor: str
    threads: int

    @classmethod
    def here(cls, threads: int | None) -> "Machine":
        """Describe this machine.

        Args:
            threads: None is the runtimes' own choice, the physical cores.
        """
        count = threads or psutil.cpu_count(logical=False) or 1
        return cls(platform.node(), _processor(), count)


@dataclass(frozen=True)
class Speed:
    """Median rates of a session, in tokens a second.

    Attributes:
        prefill_tokens: of the prompt that was prefilled.
        decode_tokens: decoded after it.
    """

    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    prefill_tokens: int
    decode_tokens: int


@dataclass(frozen=True)
class Record:
    """The figures of one candidate.

    Attributes:
        key: of the task that was measured.
        evaluation: against the checkpoint in float32.
        kl_error_nats: standard error of the mean KL divergence.
        bundle: folder, on the machine that measured.
    """

    key: str
    evaluation: EvalResult
    kl_error_nats: float
    speed: Speed
    machine: Machine
    bundle: str

    @property
    def kl_nats(self) -> float:
        """The mean KL divergence."""
        assert self.evaluation.kl_nats is not None, "measured against the checkpoint"
        return self.evaluation.kl_nats.mean

    @property
    def agreement(self) -> float:
        """The share of tokens with the same top token."""
        assert self.evaluation.top1_agreement is not None, "measured against the checkpoint"
        return self.evaluation.top1_agreement

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Read what `to_json` wrote.

        Raises:
            FieldError: it is something else.
        """
        return read_as(cls, load_object(text))


def _processor() -> str:
    """Return what the maker calls this machine's processor, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    rows = dict(line.split(":", 1) for line in lines if ":" in line)
    names = {key.strip(): value.strip() for key, value in rows.items()}
    found = (names[name] for name in _MODEL_NAMES if names.get(name))
    return next(found, platform.processor() or platform.machine())
