"""What is asked of an advice, as the command and Python take it."""

from dataclasses import dataclass
from pathlib import Path

from pocketlm.runtime_py.errors import RunError

DEFAULT_TOKENS = 2048


@dataclass(frozen=True)
class Question:
    """Which quantization should I take?

    Attributes:
        checkpoint: a folder, a GGUF file, a hub id, or "pico".
        text: file that candidates are measured on.
        calibration_text: file for methods that need data; None is the model's own text.
        ram_bytes: that the model may hold on the device; None is no limit.
        device: whose memory budget is the limit: a profile, or a device that answers.
        least_agreement: least share of tokens with the checkpoint's top token, 0 to 1.
        backends: empty is every one.
        context_length: None is what a build takes.
        candidates: RECIPE or RECIPE+METHOD; empty is the default ones.
        tokens: of the text, at most.
        threads: None is the runtimes' own choice.
        out: where candidates are built; None is the user's cache.
        fresh: build and measure everything again.
        ray: address of a cluster that measures; None measures here.
    """

    checkpoint: str
    text: Path
    calibration_text: Path | None = None
    ram_bytes: int | None = None
    device: str | None = None
    least_agreement: float | None = None
    backends: tuple[str, ...] = ()
    context_length: int | None = None
    candidates: tuple[str, ...] = ()
    tokens: int = DEFAULT_TOKENS
    threads: int | None = None
    out: Path | None = None
    fresh: bool = False
    ray: str | None = None

    def __post_init__(self) -> None:
        least = self.least_agreement
        if least is not None and not 0 <= least <= 1:
            raise RunError(f"least agreement {least}: a share of tokens; give 0 to 1")
        for what, value in (("tokens", self.tokens), ("ram_bytes", self.ram_bytes)):
            if value is not None and value < 1:
                raise RunError(f"{what} = {value}: give 1 or more")
