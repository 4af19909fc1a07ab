"""What an interrupted training goes on from, in one safetensors file that is replaced whole."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pocketlm.training.processes import Processes, assign, whole

STATE_NAME = "state.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        step: steps that are done.
        losses: of each of them, in nats.
        held_out: (steps that were done, KL divergence in nats for each way to round).
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    held_out: list[tuple[float, ...]] = field(default_factory=list)


def write_state(
    folder: Path,
    student: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    processes: Processes,
) -> None:
    """Write parameters and the optimizer's moments; every process must ask."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in student.named_parameters():
        values = {"parameter": parameter, **_moments(optimizer, parameter)}
        for kind, value in values.items():
            gathered = whole(value)
            if processes.is_first:
                tensors[f"{kind}.{name}"] = gathered.contiguous()
    if not processes.is_first:
        return
    tensors["losses"] = torch.tensor(progress.losses, dtype=torch.float64)
    tensors["held_out"] = torch.tensor(progress.held_out, dtype=torch.float64)
    written = folder / f"{STATE_NAME}.writing"
    save_file(tensors, written, metadata={"step": str(progress.step)})
    written.replace(folder / STATE_NAME)


def read_state(
    folder: Path, student: nn.Module, optimizer: torch.optim.Optimizer
) -> Progress | None:
    """Go back to the state that was written; None where there is none, or a damaged one."""
    path = folder / STATE_NAME
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            step = int(file.metadata()["step"])
            for name, parameter in student.named_parameters():
                assign(parameter, file.get_tensor(f"parameter.{name}"))
                state = optimizer.state[parameter]
                state["step"] = torch.tensor(float(step))
                for kind in _MOMENTS:
                    state[kind] = torch.zeros_like(parameter)
                    assign(state[kind], file.get_tensor(f"{kind}.{name}"))
            losses = file.get_tensor("losses").tolist()
            held_out = [tuple(row) for row in file.get_tensor("held_out").tolist()]
    except (SafetensorError, KeyError, ValueError, OSError):
        return None
    return Progress(step, losses, held_out)


def _moments(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, Tensor]:
    state = optimizer.state[parameter]
    return {kind: state[kind] for kind in _MOMENTS}
