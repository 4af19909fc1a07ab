"""What lowering costs a build: values that each backend states of itself.

They are fitted to what benchmarks/build_memory.py and golden_stage.py measure.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class LoweringMemory:
    """What one backend's lowering holds.

    Attributes:
        library_bytes: code and caches of the tools.
        layer_bytes: for each layer of the model.
        head_copies, template_copies: of the head, and of one layer, a byte a code.
        mapped_tensors: largest stored tensors that are mapped at once.
        left: what stays when it is done.
    """

    library_bytes: int
    layer_bytes: float
    head_copies: float = 0
    template_copies: float = 0
    mapped_tensors: int = 0
    left: "LoweringMemory | None" = None


@dataclass(frozen=True)
class LoweringCost:
    """Memory, and seconds on two cores of a server, of which only the ratios to others count.

    Attributes:
        once_s, layer_s, weight_s: of any model, for each layer, for each weight.
    """

    memory: LoweringMemory
    once_s: float
    layer_s: float
    weight_s: float


# Of a backend that nobody measured: as much memory as the most careless one.
UNMEASURED = LoweringCost(
    LoweringMemory(140_000_000, 4_000_000, head_copies=4.4, template_copies=16),
    once_s=10.0,
    layer_s=1.0,
    weight_s=10e-9,
)
