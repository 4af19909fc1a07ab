"""The report of one profile: the values, and the JSON that holds them.

Within a schema version, fields are only added. Bytes are bytes, times are seconds of the device's
monotonic clock, counted from the runner's start.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from pocketlm.device_tests.device.facts import DeviceFacts
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.job.verdict import Verdict
from pocketlm.device_tests.memory.values import AndroidAccount, Ledger, Phase, Sample
from pocketlm.runtime_py.typed_json import FieldError, load_object, read_as

SCHEMA_VERSION = 1
_NUMBERS_BELOW = 2**63


@dataclass(frozen=True)
class BundleFacts:
    """What was run.

    Attributes:
        digest: sha256 of the bundle's manifest.
        kv_dtype: of what the caches hold: "float32", "int8", "int8-local" or "int8-global".
        artifact_bytes: files that the runtime opens.
    """

    name: str
    digest: str
    backend: str
    recipe: str
    context_length: int
    prefill_chunk: int
    kv_dtype: str
    artifact_bytes: int


@dataclass(frozen=True)
class RunFacts:
    """How it was run.

    Attributes:
        kernels: the policy that decides which kernels compute, "mlas.disable_kleidiai=1".
        prompt_tokens, decode_tokens: of the measured run.
        packed_cache: whether packed weights were mapped from a file.
    """

    runtime: str
    runtime_version: str
    threads: int
    kernels: str
    prompt_tokens: int
    decode_tokens: int
    packed_cache: bool = False


@dataclass(frozen=True)
class Step:
    """One call of the model: a prompt, or one token."""

    clock_s: float
    wall_s: float
    tokens: int
    position: int


@dataclass(frozen=True)
class AnswerDifference:
    """One step whose answer is not the bundle's."""

    case: str
    step: int
    position: int
    what: str
    expected: str
    found: str


@dataclass(frozen=True)
class Answers:
    """The golden answers of the bundle against the device's own.

    Attributes:
        largest_error, tolerance: of logits, in standard deviations of a row.
        near_ties: choices that may fall either way, and fell the other way.
    """

    steps: int
    largest_error: float
    tolerance: float
    near_ties: int
    differences: tuple[AnswerDifference, ...]
    passed: bool


@dataclass(frozen=True)
class Report:
    """One profile.

    Attributes:
        created: UTC, ISO 8601.
        reason: the verdict in a sentence, with what to do where something is to be done.
        ledger, answers: None where the run did not come that far.
        android: None where the device is no phone, or the run was over before it was asked.
    """

    created: str
    pocketlm_version: str
    verdict: Verdict
    reason: str
    target: str
    bundle: BundleFacts
    device: DeviceFacts
    run: RunFacts
    load_s: float | None
    phases: tuple[Phase, ...]
    ledger: Ledger | None
    samples: tuple[Sample, ...]
    steps: tuple[Step, ...]
    answers: Answers | None
    warnings: tuple[str, ...] = ()
    android: AndroidAccount | None = None
    schema_version: int = field(default=SCHEMA_VERSION)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str) -> "Report":
        """Read a report that `to_json` wrote.

        Args:
            name: what to call it in the error.

        Raises:
            DeviceError: it is something else, or of a newer schema.
        """
        try:
            document = load_object(text)
            found = document.get("schema_version")
            if type(found) is int and found > SCHEMA_VERSION:
                raise DeviceError(
                    f"{name}: a report of schema {found}; this pocketlm reads up to "
                    f"{SCHEMA_VERSION}; update pocketlm"
                )
            _check_numbers(document)
            return read_as(cls, document)
        except FieldError as error:
            raise DeviceError(
                f"{name}: this is not a report of pocketlm profile: {error}; give a file that "
                "`pocketlm profile --out` wrote"
            ) from error


def _check_numbers(document: dict[str, Any]) -> None:
    """Refuse numbers that no device counts: sums and ratios of them would overflow.

    Raises:
        FieldError: a number is out of range.
    """
    left: list[tuple[str, Any]] = [("", document)]
    while left:
        path, value = left.pop()
        if isinstance(value, dict):
            left += [(f"{path}.{name}".lstrip("."), member) for name, member in value.items()]
        elif isinstance(value, list):
            left += [(f"{path}[{i}]", item) for i, item in enumerate(value)]
        elif isinstance(value, int | float) and not abs(value) < _NUMBERS_BELOW:
            raise FieldError(f"{path}: the number is too large")
        elif isinstance(value, int) and value < 0 and path.endswith("_bytes"):
            raise FieldError(f"{path}: {value} bytes cannot be")
