"""One process, or those that torchrun started: who computes what, and how parameters are shared.

Parameters, gradients and the optimizer's state are sharded over the processes with FSDP2.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, nn

from pocketlm.edge_build.errors import BuildError

# The first process quantizes alone, which may take hours of a large model.
_TIMEOUT = timedelta(days=1)


@dataclass(frozen=True)
class Processes:
    """Those that train together.

    Attributes:
        rank: of this one; the first writes files and reports.
        device: that this one computes on.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def hear(self, said: bool = False) -> bool:
        """Return what the first process says; the others wait for it."""
        if self.count == 1:
            return said
        word = torch.tensor(int(said), device=self.device)
        torch.distributed.broadcast(word, src=0)
        return bool(word)

    def share(self, batch: Tensor) -> Tensor:
        """Return this process's rows of a batch, which has as many for each."""
        return batch.chunk(self.count)[self.rank].to(self.device)

    def mean(self, value: Tensor) -> float:
        """Return the mean of a number over all processes."""
        if self.count > 1:
            torch.distributed.all_reduce(value)
        return float(value) / self.count

    def shard(self, root: nn.Module, blocks: list[nn.Module]) -> None:
        """Share the parameters of a module, each of its blocks by itself."""
        root.to(self.device)
        if self.count == 1:
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.device.type, (self.count,))
        for block in (*blocks, root):
            fully_shard(block, mesh=mesh)

    def reshard(self, root: nn.Module) -> None:
        """Share the parameters again that a run without gradients has left whole."""
        if self.count > 1:
            from torch.distributed.fsdp import FSDPModule

            assert isinstance(root, FSDPModule), "a module that was sharded"
            root.reshard()


@contextmanager
def joined_processes(device: str | None) -> Iterator[Processes]:
    """Join the processes that torchrun started, if it did.

    Args:
        device: "cpu" or "cuda"; None takes a GPU where there is one.

    Raises:
        BuildError: there is no such device.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cuda" and not torch.cuda.is_available():
        raise BuildError(
            "--device cuda: torch sees no GPU here; leave it out, or install torch for CUDA"
        )
    place = torch.device(kind)
    if kind == "cuda":
        place = torch.device(kind, int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(place)
    if count == 1:
        yield Processes(0, 1, place)
        return
    torch.distributed.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield Processes(rank, count, place)
    finally:
        torch.distributed.destroy_process_group()


def whole(value: Tensor) -> Tensor:
    """Return a parameter, gathered from all processes, on the CPU; every process must ask."""
    from torch.distributed.tensor import DTensor

    value = value.detach()
    return (value.full_tensor() if isinstance(value, DTensor) else value).cpu()


def assign(target: Tensor, value: Tensor) -> None:
    """Copy a whole value into a parameter, or into this process's shard of it."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    with torch.no_grad():
        if isinstance(target, DTensor):
            value = distribute_tensor(
                value.to(target.device), target.device_mesh, target.placements
            )
        target.copy_(value)
