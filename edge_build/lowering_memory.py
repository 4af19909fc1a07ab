"""What lowering holds in memory: a value that each backend states of itself.

It is fitted to what benchmarks/build_memory.py measures.
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


# Of a backend that nobody measured: as much as the most careless one.
UNMEASURED = LoweringMemory(140_000_000, 4_000_000, head_copies=4.4, template_copies=16)
