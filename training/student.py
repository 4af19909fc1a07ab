"""The student: the Decoder with every quantized weight on its grid, and the loss it is trained by.

Its teacher stands in the same module, so that both are sharded alike where many machines train.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pocketlm.edge_build.quantization.activations import AttentionRounding
from pocketlm.edge_build.reference import OnInput
from pocketlm.models.config import ModelConfig
from pocketlm.models.decoder import Decoder
from pocketlm.models.layers import RMSNorm
from pocketlm.training.banded_attention import BandedAttention
from pocketlm.training.distillation import Teacher, distillation_loss
from pocketlm.training.grid_weight import GridWeight
from pocketlm.training.rounding import RoundedAttention, straight_through


@dataclass(frozen=True)
class RoundingWay:
    """What one backend rounds.

    Attributes:
        inputs: a weight's name → what is done to its layer's inputs.
        attention: what is done to queries, keys and values.
    """

    inputs: Callable[[str], OnInput | None]
    attention: AttentionRounding


class WholeWeight(nn.Module):
    """A weight that a recipe keeps in float32."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self) -> Tensor:
        """Return the weight, [out, in]."""
        return self.weight


TrainedWeight = GridWeight | WholeWeight


class TrainedLinear(nn.Module):
    """x @ weight.T, x rounded as the backend at work rounds it."""

    def __init__(self, weight: TrainedWeight, name: str) -> None:
        super().__init__()
        self.weight, self.name = weight, name
        self.rounding: OnInput | None = None

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, in] → [B, T, out]."""
        return functional.linear(straight_through(x, self.rounding), self.weight())


class Student(nn.Module):
    """The student's layers, table, head and norms.

    Args:
        weights: every matrix, by name; a tied model has no "lm_head".
        norms: every norm's weight, by name.
    """

    def __init__(
        self, config: ModelConfig, weights: Mapping[str, TrainedWeight], norms: Mapping[str, Tensor]
    ) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):
            decoder = Decoder(config)
        for name, module in list(decoder.named_modules()):
            if isinstance(module, nn.Linear) and name != "lm_head":
                decoder.set_submodule(name, TrainedLinear(weights[name], name))
            elif isinstance(module, RMSNorm):
                norm = RMSNorm(module.size, module.eps)
                norm.weight = nn.Parameter(norms[name].clone())
                decoder.set_submodule(name, norm)
        self.layers, self.norm = decoder.layers, decoder.norm
        self.table = weights["embed_tokens"]
        self.head = weights.get("lm_head")
        self.linears = [m for m in self.modules() if isinstance(m, TrainedLinear)]

    def matrices(self) -> dict[str, TrainedWeight]:
        """Return every matrix by its name."""
        found = {linear.name: linear.weight for linear in self.linears}
        head = {} if self.head is None else {"lm_head": self.head}
        return {"embed_tokens": self.table, **found, **head}

    def norms(self) -> dict[str, RMSNorm]:
        """Return every norm by its name."""
        return {name: m for name, m in self.named_modules() if isinstance(m, RMSNorm)}

    def forward(self, tokens: Tensor, way: RoundingWay) -> tuple[Tensor, Tensor]:
        """Return inputs of the head [B * T, E], and the head [V, E]."""
        for linear in self.linears:
            linear.rounding = way.inputs(linear.name)
        with torch.device(tokens.device):
            step = RoundedAttention(self.config, tokens.shape[1], way.attention)
        table = self.table()
        x = functional.embedding(tokens, table) * self.config.embedding_scale
        for layer in self.layers:
            x = layer(x, step)
        head_name = "embed_tokens" if self.head is None else "lm_head"
        hidden = straight_through(self.norm(x), way.inputs(head_name))
        return hidden.flatten(0, 1), table if self.head is None else self.head()


class Distillation(nn.Module):
    """Student and teacher on the same tokens."""

    def __init__(self, student: Student, teacher: Decoder) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher.requires_grad_(False)

    def forward(self, tokens: Tensor, way: RoundingWay, targets: int | None, seed: int) -> Tensor:
        """Return the mean KL divergence in nats of predictions after tokens [B, T]."""
        with torch.no_grad(), torch.device(tokens.device):
            step = BandedAttention(self.teacher.config, tokens.shape[1])
            expected = self.teacher.norm(self.teacher.hidden(tokens, step)).flatten(0, 1)
        hidden, head = self.student(tokens, way)
        cap = self.teacher.config.logits_softcap
        teacher = Teacher(expected, self.teacher.lm_head.weight, cap, targets, seed)
        return distillation_loss(hidden, head, self.student.config.logits_softcap, teacher)
