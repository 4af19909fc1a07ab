"""What keys and values are kept in: one precision for layers with a window, one for all others."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

KvPrecision = Literal["float32", "int8"]
KV_PRECISIONS: tuple[KvPrecision, ...] = get_args(KvPrecision)
# As `pocketlm build --kv` and `pocketlm fit --kv` take them.
KvName = Literal["float32", "int8", "int8-local", "int8-global"]
KV_NAMES: tuple[KvName, ...] = get_args(KvName)


@dataclass(frozen=True)
class KvChoice:
    """Precision of keys and values by the kind of their layer.

    Attributes:
        local: of layers with a window.
        global_: of all others.
    """

    local: KvPrecision
    global_: KvPrecision

    @classmethod
    def named(cls, name: KvName) -> "KvChoice":
        """Return the choice of a name."""
        return next(choice for choice in CHOICES if choice.name == name)

    @property
    def name(self) -> KvName:
        """How a user asks for it."""
        if self.local == self.global_:
            return self.local
        return "int8-local" if self.local == "int8" else "int8-global"

    @property
    def is_mixed(self) -> bool:
        """Whether layers of the two kinds differ."""
        return self.local != self.global_


FLOAT32, INT8 = KvChoice("float32", "float32"), KvChoice("int8", "int8")
CHOICES = (FLOAT32, KvChoice("int8", "float32"), KvChoice("float32", "int8"), INT8)


@dataclass(frozen=True)
class KvMeasured:
    """One choice that a build with `--kv auto` tried.

    Attributes:
        kv: its name.
        kl_nats: mean KL divergence from the float model, weights quantized as in the bundle.
        size_bytes: of all caches of the backend at full context.
    """

    kv: KvName
    kl_nats: float
    size_bytes: int


class _Cache(Protocol):
    @property
    def window(self) -> int | None: ...

    @property
    def dtype(self) -> str: ...


def kv_choice_of(caches: Iterable[_Cache]) -> KvChoice:
    """Return the choice that caches were built with; caches of one kind are alike.

    Where there is one kind of layer, the other counts as if it were kept in the same.
    """
    found: dict[bool, KvPrecision] = {}
    for cache in caches:
        found.setdefault(cache.window is None, "int8" if cache.dtype == "int8" else "float32")
    global_ = found.get(True, found.get(False, "float32"))
    return KvChoice(found.get(False, global_), global_)
