"""What memory is divided into, everywhere: prediction, inspection, attribution, ledger, report."""

from typing import Literal

# "dirty" has no file behind it: only swap or a kill frees it. "clean" pages can be read again.
PartKind = Literal["dirty", "clean"]

Part = Literal[
    "weights, mapped",
    "weights, packed",
    "embedding rows",
    "KV cache, global",
    "KV cache, rings",
    "activations",
    "logits",
    "runtime memory",
    "runtime code",
    "unattributed",
]
# In the order in which they are shown. "clean" has a file behind it.
PARTS: dict[Part, PartKind] = {
    "weights, mapped": "clean",
    "weights, packed": "dirty",
    "embedding rows": "clean",
    "KV cache, global": "dirty",
    "KV cache, rings": "dirty",
    "activations": "dirty",
    "logits": "dirty",
    "runtime memory": "dirty",
    "runtime code": "clean",
    "unattributed": "dirty",
}
