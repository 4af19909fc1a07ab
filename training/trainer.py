"""The loop: a batch, its loss, a step of the optimizer; again and again."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pocketlm.edge_build.kv_scales import KvScales
from pocketlm.edge_build.quantization.activations import Rounding, attention_rounding
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.edge_build.reference import OnInput, round_inputs
from pocketlm.models.checkpoint import Checkpoint, load_decoder
from pocketlm.runtime_py.manifest import ActivationQuantization
from pocketlm.training.exporting import TrainedWeights
from pocketlm.training.grid_weight import GridWeight
from pocketlm.training.preparation import QatPreparation
from pocketlm.training.processes import Processes, whole
from pocketlm.training.schedule import share_of_rate
from pocketlm.training.state import Progress, read_state, write_state
from pocketlm.training.student import (
    Distillation,
    RoundingWay,
    Student,
    TrainedWeight,
    WholeWeight,
)

# Tokens that are read at once: activations of more would not fit a laptop.
_PASS_TOKENS = 4096
# Relative steps of scales, and steps of norms, at the same learning rate as positions of one code.
_SCALE_RATE, _NORM_RATE = 0.2, 0.2
_BETAS = (0.9, 0.95)
# How often the held-out sequences are measured: so many times, besides the beginning.
_MEASUREMENTS = 10

# (steps done, steps, loss in nats)
Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Start:
    """What training begins with.

    Attributes:
        checkpoint: the float weights that the codes stand for, folded where a method folds.
        weights: the codes and scales.
        kv_scales: of int8 caches that have constant ones.
    """

    checkpoint: Checkpoint
    weights: WeightStore
    kv_scales: KvScales | None


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        progress: its losses.
        ways: names of the backends that were rounded for, in the order of `progress.held_out`.
        weights: gathered from all processes.
    """

    progress: Progress
    ways: tuple[str, ...]
    weights: TrainedWeights


def train(
    prepared: QatPreparation,
    start: Start,
    folder: Path,
    processes: Processes,
    report: Report,
) -> Trained:
    """Train from the codes of `start`, or from what an interrupted run left in `folder`.

    Every process calls this with the same arguments.
    """
    trainer = _Trainer(prepared, start, processes)
    trainer.run(folder, report)
    return Trained(trainer.progress, tuple(trainer.ways), trainer.gathered())


class _Trainer:
    def __init__(self, prepared: QatPreparation, start: Start, processes: Processes) -> None:
        self.spec, self.text, self.processes = prepared.spec, prepared.text, processes
        self.ways = _ways(prepared, start.kv_scales)
        if self.spec.precision == "bfloat16":
            torch.set_float32_matmul_precision("medium")
        student = _student(start.checkpoint, start.weights)
        self.model = Distillation(student, load_decoder(prepared.teacher))
        teacher = self.model.teacher
        processes.shard(self.model, [*student.layers, *teacher.layers])
        self.optimizer = _optimizer(student, self.spec.learning_rate)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.progress = Progress()

    def run(self, folder: Path, report: Report) -> None:
        """Take the steps that are not done, and write the state every few of them."""
        student, steps = self.model.student, self.spec.steps
        report(0, steps, "")
        self.progress = read_state(folder, student, self.optimizer) or Progress()
        every = max(1, steps // _MEASUREMENTS)
        if not self.progress.held_out:
            self._measure()
        while self.progress.step < steps:
            report(self.progress.step, steps, self._loss_text())
            self.progress.losses.append(self._step(self.progress.step))
            self.progress.step += 1
            if self.progress.step % every == 0 or self.progress.step == steps:
                self._measure()
            if self.progress.step % self.spec.save_every == 0 or self.progress.step == steps:
                write_state(folder, student, self.optimizer, self.progress, self.processes)
        report(steps, steps, self._loss_text())

    def gathered(self) -> TrainedWeights:
        """Return the student's weights, whole; every process must ask."""
        student = self.model.student
        codes: dict[str, tuple[Tensor, Tensor]] = {}
        plain: dict[str, Tensor] = {}
        for name, matrix in student.matrices().items():
            if isinstance(matrix, GridWeight):
                codes[name] = matrix.on_grid(whole(matrix.position), whole(matrix.log_scale))
            else:
                plain[name] = whole(matrix.weight)
        norms = {name: whole(norm.weight) for name, norm in student.norms().items()}
        return TrainedWeights(codes, {**plain, **norms})

    def _step(self, step: int) -> float:
        share = share_of_rate(step, self.spec.steps)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * share
        way = list(self.ways.values())[step % len(self.ways)]
        mine = self.processes.share(self.text.batch(step, self.spec.batch))
        passes = mine.split(max(1, _PASS_TOKENS // mine.shape[1]))
        total = mine.new_zeros((), dtype=torch.float32)
        for number, rows in enumerate(passes):
            weight = len(rows) / len(mine)
            seed = (step * self.processes.count + self.processes.rank) * len(passes) + number
            loss = self.model(rows, way, self.spec.targets, seed) * weight
            loss.backward()
            total += loss.detach()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return self.processes.mean(total)

    @torch.no_grad()
    def _measure(self) -> None:
        """Measure held-out sequences, always the same; each process reads all of them."""
        trained = self.spec.batch * max(1, self.spec.steps // _MEASUREMENTS)
        rows = self.text.measured(trained).to(self.processes.device)
        found = []
        for way in self.ways.values():
            parts = [
                float(self.model(part, way, None, 0)) * len(part)
                for part in rows.split(max(1, _PASS_TOKENS // rows.shape[1]))
            ]
            found.append(sum(parts) / len(rows))
        self.processes.reshard(self.model)
        self.progress.held_out.append((float(self.progress.step), *found))

    def _loss_text(self) -> str:
        losses = self.progress.losses[-10:]
        return f"KL {sum(losses) / len(losses):.4f} nats" if losses else "held-out text"


def _ways(prepared: QatPreparation, kv_scales: KvScales | None) -> dict[str, RoundingWay]:
    """Return what each backend rounds, by its name."""
    rules = prepared.start.rules
    found = {}
    for backend in prepared.start.backends:
        plan = prepared.start.caches_of(backend)

        def inputs(name: str, kind: ActivationQuantization = backend.activations) -> OnInput | None:
            return round_inputs(rules[name].scheme, kind)

        kind = backend.attention(prepared.start.checkpoint.config, plan)
        way = Rounding.over(plan.layers, backend.activations, kind)
        attention = attention_rounding(way.attention, kv_scales, way.whole)
        found[backend.name] = RoundingWay(inputs, attention)
    return found


def _student(checkpoint: Checkpoint, store: WeightStore) -> Student:
    matrices: dict[str, TrainedWeight] = {}
    norms: dict[str, Tensor] = {}
    for name in store.names():
        if store.schemes[name] is None:
            weight = torch.from_numpy(store.floating(name).copy())
            if weight.dim() == 1:
                norms[name] = weight
            else:
                matrices[name] = WholeWeight(weight)
        else:
            coded = store.quantized(name)
            codes, scales = (
                torch.from_numpy(part.copy()) for part in (coded.codes(), coded.scales)
            )
            matrices[name] = GridWeight(coded.scheme, codes, scales, checkpoint.read(name))
    return Student(checkpoint.config, matrices, norms)


def _optimizer(student: Student, rate: float) -> torch.optim.Optimizer:
    """Return Adam without decay: weights are to stay near those of the float model."""
    grids = [m for m in student.matrices().values() if isinstance(m, GridWeight)]
    positions = [grid.position for grid in grids]
    scales = [grid.log_scale for grid in grids]
    known = {id(parameter) for parameter in (*positions, *scales)}
    rest = [p for p in student.parameters() if id(p) not in known]
    groups = (
        {"params": positions, "lr": rate},
        {"params": scales, "lr": rate * _SCALE_RATE},
        {"params": rest, "lr": rate * _NORM_RATE},
    )
    return torch.optim.AdamW(groups, betas=_BETAS, weight_decay=0.0, fused=True)
