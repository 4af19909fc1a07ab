"""What memory is divided into, everywhere: attribution, prediction, ledger and report."""

from typing import Literal

from pocketlm.device_tests.memory.values import PartKind

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
