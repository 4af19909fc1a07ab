"""Holds a build's predicted memory against what is allowed and what is free."""

import math
from dataclasses import dataclass, replace

from pocketlm.edge_build.byte_sizes import shown_size, written_size
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.memory_prediction import StageMemory, predict_memory
from pocketlm.edge_build.preparation import Preparation
from pocketlm.edge_build.progress import Notice, Notify
from pocketlm.edge_build.resident_memory import available_bytes, resident_bytes, return_freed_memory


@dataclass(frozen=True)
class MemoryEstimate:
    """What a build will hold, and what there is for it.

    Attributes:
        resident_bytes: held before the first stage.
        available_bytes: what the machine could give in addition.
        alone: backend name → peak of a build for that backend alone, where there are several.
    """

    stages: tuple[StageMemory, ...]
    resident_bytes: int
    available_bytes: int
    max_ram_bytes: int | None
    alone: dict[str, int]

    @property
    def highest(self) -> StageMemory:
        """The stage that decides."""
        return max(self.stages, key=lambda stage: stage.peak_bytes)

    @property
    def peak_bytes(self) -> int:
        return self.highest.peak_bytes

    def check(self, notify: Notify) -> None:
        """Refuse what --max-ram does not allow; warn of what the machine does not have.

        Raises:
            BuildError: the predicted peak is more than allowed.
        """
        limit = self.max_ram_bytes
        if limit is not None and self.peak_bytes > limit:
            raise BuildError(
                f"--max-ram {written_size(limit)} ({shown_size(limit)}): {self._explained()}. "
                f"{self._advice(limit, f'--max-ram {_allowance(self.peak_bytes)}')}"
            )
        room = self.resident_bytes + self.available_bytes
        if limit is None and self.peak_bytes > room:
            notify(
                Notice(
                    f"warning: {self._explained()}, and {shown_size(room)} are free: the system "
                    f"may end it. {self._advice(room, 'more memory')}"
                )
            )

    def _explained(self) -> str:
        terms = sorted(self.highest.terms, key=lambda term: -term.size_bytes)
        largest = ", ".join(f"{shown_size(term.size_bytes)} {term.what}" for term in terms[:3])
        return (
            f"stage {self.highest.name} is predicted to hold {shown_size(self.peak_bytes)} "
            f"({largest})"
        )

    def _advice(self, limit: int, otherwise: str) -> str:
        fits = [
            f"--backend {name} alone ({shown_size(peak)})"
            for name, peak in self.alone.items()
            if peak <= limit
        ]
        return f"What would do: {', or '.join((*fits, otherwise))}; --dry-run shows every stage"


def _allowance(size_bytes: int) -> str:
    """Return a size as --max-ram takes it, not less than `size_bytes`."""
    return f"{math.ceil(size_bytes / 1e6)}MB"


def estimate_memory(prepared: Preparation) -> MemoryEstimate:
    """Predict a checked build's memory in this process, as it is now."""
    # Reading a large tokenizer leaves much behind.
    return_freed_memory()
    resident = resident_bytes()
    several = prepared.backends if len(prepared.backends) > 1 else ()
    return MemoryEstimate(
        stages=predict_memory(prepared, resident),
        resident_bytes=resident,
        available_bytes=available_bytes(),
        max_ram_bytes=prepared.spec.max_ram_bytes,
        alone={
            backend.name: max(
                stage.peak_bytes
                for stage in predict_memory(replace(prepared, backends=(backend,)), resident)
            )
            for backend in several
        },
    )
