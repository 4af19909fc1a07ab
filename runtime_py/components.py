"""What runtimes call of an artifact: methods or graphs, each with its inputs and outputs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketlm.runtime_py.errors import RunError

# Every bundle has it; a vision tower or a draft head would be one more.
DECODER = "decoder"


@dataclass(frozen=True)
class TensorSignature:
    """One input or output.

    Attributes:
        name: None where the artifact names none, and its index counts.
        shape: a number is a size, or the most it may be in a runtime that plans memory; a word is a
            size that a call decides.
    """

    name: str | None
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        sizes = ", ".join(map(str, self.shape))
        return f"{self.name or 'a tensor'}: {self.dtype}[{sizes}]"


@dataclass(frozen=True)
class Signature:
    """What a method or graph takes and gives, in its order."""

    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]

    def differences(self, found: "Signature") -> Iterator[tuple[str, str, str]]:
        """Yield (field, ours, found) of everything that differs."""
        yield from _differences("inputs", self.inputs, found.inputs)
        yield from _differences("outputs", self.outputs, found.outputs)


@dataclass(frozen=True)
class Component:
    """A part of the model that a runtime calls by itself.

    Attributes:
        name: "decoder".
        file: path of the artifact that holds it.
        entry_point: name of the method or graph in that file.
        signature: None in bundles of format 1, which did not record it.
        caches: numbers of the backend's caches that it reads and writes.
        planned_bytes: memory that the artifact itself plans for a call besides caches: outputs, all
            between, and what kernels read past the end; None where the runtime allocates.
    """

    name: str
    file: str
    entry_point: str | None
    signature: Signature | None
    caches: tuple[int, ...]
    planned_bytes: int | None = None

    def check(self, path: Path, found: Signature) -> None:
        """Hold what a runtime found in the artifact against the manifest, if that says anything.

        Raises:
            RunError: an input or output is another.
        """
        if self.signature is None:
            return
        for place, expected, present in self.signature.differences(found):
            raise RunError(
                f"{path}: {place} of {self.entry_point} should be {expected} by the manifest, but "
                f"is {present}; the model and the manifest are of different builds: build the "
                "bundle again or copy it again"
            )


def _differences(
    place: str, ours: Sequence[TensorSignature], found: Sequence[TensorSignature]
) -> Iterator[tuple[str, str, str]]:
    for i in range(max(len(ours), len(found))):
        expected, present = (str(row[i]) if i < len(row) else "nothing" for row in (ours, found))
        if expected != present:
            yield f"{place}[{i}]", expected, present
