"""What an artifact may cost: memory on the device, and how often it may choose another token."""

from dataclasses import dataclass
from typing import Literal

from pocketlm.device_tests.fit.fitting import MARGIN_RATIO, compare_with_budget
from pocketlm.device_tests.fit.memory_budget import MemoryBudget
from pocketlm.runtime_py.memory_inputs import MemoryInputs
from pocketlm.runtime_py.memory_prediction import PHONE_ARCHITECTURE, full_context, predict
from pocketlm.runtime_py.sizes import size_text

FitStatus = Literal["fits", "tight", "does not fit"]


@dataclass(frozen=True)
class DeviceMemory:
    """What a bundle is predicted to hold with a full context, and whether there is room for it.

    Attributes:
        peak_bytes: most that is resident, pages of files included.
        dirty_bytes: what only a kill frees.
        reason: what is needed, with the margin of a prediction, of what there is.
    """

    peak_bytes: int
    dirty_bytes: int
    status: FitStatus = "fits"
    reason: str = ""


@dataclass(frozen=True)
class Limits:
    """What the user asks for; None is no limit.

    Attributes:
        ram_bytes: that a model may hold at its peak.
        budget: of a device, as `fit` compares with it.
        least_agreement: share of tokens before which artifact and checkpoint find the same one
            likeliest.
    """

    ram_bytes: int | None = None
    budget: MemoryBudget | None = None
    least_agreement: float | None = None

    @property
    def has_memory_limit(self) -> bool:
        return self.ram_bytes is not None or self.budget is not None

    def compare(self, inputs: MemoryInputs, backend: str) -> DeviceMemory:
        """Predict a bundle's memory on the device and hold it against the limits."""
        budget = self.budget
        architecture = budget.architecture if budget else PHONE_ARCHITECTURE
        prediction = predict(inputs, backend, full_context(inputs), architecture)
        peak, dirty = prediction.peak_bytes, prediction.dirty_bytes
        needed = _with_margin(peak)
        if self.ram_bytes is not None and needed > self.ram_bytes:
            reason = f"needs {size_text(needed)} of {size_text(self.ram_bytes)}"
            return DeviceMemory(peak, dirty, "does not fit", reason)
        if budget is None:
            return DeviceMemory(peak, dirty)
        found = compare_with_budget(prediction, budget).status
        if found == "will not fit":
            sizes = f"{size_text(_with_margin(dirty))} of {size_text(budget.most_bytes)}"
            reason = f"needs {sizes} dirty memory on {budget.name}"
            return DeviceMemory(peak, dirty, "does not fit", reason)
        reason = f"tight on {budget.name}" if found == "tight" else ""
        return DeviceMemory(peak, dirty, found, reason)


def _with_margin(size_bytes: int) -> int:
    return int((1 + MARGIN_RATIO) * size_bytes)
