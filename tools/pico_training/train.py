"""Trains the pico checkpoint: `python -m tools.pico_training.train --minutes 65`.

The time is the budget: the learning rate follows the share of it that has passed, so a slower
machine trains fewer tokens and still ends with a finished schedule. The folder always holds the
newest checkpoint.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import Gemma3ForCausalLM

from tools.pico_training import FOLDER
from tools.pico_training.batches import (
    WINDOW_TOKENS,
    TokenSource,
    batches,
    fixed_windows,
)
from tools.pico_training.corpus import Corpus, collect, python_version
from tools.pico_training.dialogues import dialogues
from tools.pico_training.network import build_network, save_checkpoint, token_losses
from tools.pico_training.tokenizer import write_tokenizer

LOG = logging.getLogger("pico")
HELD_OUT_CHARACTERS = 1500  # of each held-out document, in held_out.txt
Loss = Callable[[Gemma3ForCausalLM, Tensor], Tensor]


@dataclass(frozen=True)
class Plan:
    """One training run; the shares are of the whole time."""

    minutes: float
    seed: int = 0
    threads: int = 2
    tokens_per_pass: int = 4096
    passes_per_step: int = 2
    matrix_rate: float = 4e-3
    vector_rate: float = 3e-3
    weight_decay: float = 0.1
    warm_up_steps: int = 60
    decay_from: float = 0.50
    save_every_s: float = 240.0

    def rate(self, step: int, share: float) -> float:
        """Factor on the learning rates: warm up, stay, then fall to zero in a straight line."""
        warm = min(1.0, (step + 1) / self.warm_up_steps)
        return warm * min(1.0, max(0.0, 1.0 - share) / (1.0 - self.decay_from))


def build_optimizers(network: Gemma3ForCausalLM, plan: Plan) -> list[torch.optim.Optimizer]:
    """Give the layers' matrices to Muon, the embedding and the norms to AdamW."""
    matrices = [p for name, p in network.named_parameters() if p.ndim == 2 and "layers." in name]
    norms = [p for p in network.parameters() if p.ndim == 1]
    muon = torch.optim.Muon(
        matrices,
        lr=plan.matrix_rate,
        weight_decay=plan.weight_decay,
        momentum=0.95,
        adjust_lr_fn="match_rms_adamw",
    )
    embedding = network.get_input_embeddings().weight
    groups = [
        {"params": [embedding], "weight_decay": plan.weight_decay},
        {"params": norms, "weight_decay": 0.0},
    ]
    return [muon, torch.optim.AdamW(groups, lr=plan.vector_rate, betas=(0.9, 0.95), eps=1e-10)]


class Trainer:
    """Holds one run's state; `run` trains until the time is over."""

    def __init__(self, plan: Plan, source: TokenSource, held_out: Tensor, folder: Path) -> None:
        self.plan, self.source, self.held_out, self.folder = plan, source, held_out, folder
        torch.manual_seed(plan.seed)
        self.network = build_network()
        self.loss: Loss = torch.compile(token_losses, dynamic=False)
        self.optimizers = build_optimizers(self.network, plan)
        self.rates = [[g["lr"] for g in optimizer.param_groups] for optimizer in self.optimizers]
        self.tokens = self.step = 0
        self.started = self.saved = time.monotonic()

    def run(self) -> None:
        windows = self.source.windows(WINDOW_TOKENS)
        rows = batches(windows, self.plan.tokens_per_pass // WINDOW_TOKENS)
        while (share := self._share()) < 1.0:
            loss = self._one_step(rows, self.plan.rate(self.step, share))
            self.step += 1
            if self.step % 20 == 0:
                pace = self.tokens / (time.monotonic() - self.started)
                LOG.info("step %d share %.3f loss %.4f tokens %d pace %.0f",
                         self.step, share, loss, self.tokens, pace)  # fmt: skip
            if time.monotonic() - self.saved > self.plan.save_every_s:
                self._save()
        self._save()

    def _share(self) -> float:
        return (time.monotonic() - self.started) / (60 * self.plan.minutes)

    def _one_step(self, rows: Iterator[Tensor], factor: float) -> float:
        total = 0.0
        for _ in range(self.plan.passes_per_step):
            windows = next(rows)
            loss = self.loss(self.network, windows).mean() / self.plan.passes_per_step
            loss.backward()
            total += loss.item()
            self.tokens += windows[:, 1:].numel()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return total

    def _save(self) -> None:
        save_checkpoint(self.network, self.folder)
        LOG.info("saved at step %d: held-out loss %.4f", self.step,
                 mean_loss(self.network, self.held_out[:16]))  # fmt: skip
        self.saved = time.monotonic()


@torch.no_grad()
def mean_loss(network: Gemma3ForCausalLM, windows: Tensor) -> float:
    """Average nats per token over [rows, T + 1] windows."""
    return torch.cat([token_losses(network, part) for part in windows.split(4)]).mean().item()


def write_held_out(held_out: Corpus, path: Path) -> None:
    """Write the beginning of every held-out document, for the tests and for measuring."""
    parts = [
        text[: text.find("\n", HELD_OUT_CHARACTERS) + 1] or text for text in held_out.documents
    ]
    path.write_text("\n".join(parts), encoding="utf-8")


def round_to_bfloat16(network: Gemma3ForCausalLM) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))


def evaluate(
    network: Gemma3ForCausalLM, source: TokenSource, held_out: Corpus, seed: int
) -> dict[str, float]:
    """Measure the losses on the held-out documents and on the dialogues made of them."""
    windows = held_out_windows(source, held_out)
    talks = source.encode_dialogues(dialogues(held_out, 1, seed))
    nats = mean_loss(network, windows)
    bits = nats * windows[:, 1:].numel() / held_out.text_bytes / math.log(2)
    return {
        "held_out_nats_per_token": nats,
        "held_out_bits_per_byte": bits,
        "held_out_chat_nats_per_token": mean_loss(network, fixed_windows(talks, WINDOW_TOKENS)),
    }


def held_out_windows(source: TokenSource, held_out: Corpus) -> Tensor:
    return fixed_windows([source.encode(text) for text in held_out.documents], WINDOW_TOKENS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=65.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train, held_out = collect()
    LOG.info("python %s corpus %s: %d documents, %d bytes; held out %d documents, %d bytes",
             python_version(), train.sha256, len(train.documents), train.text_bytes,
             len(held_out.documents), held_out.text_bytes)  # fmt: skip
    answers = [turn["content"] for talk in dialogues(train, 1, arguments.seed) for turn in talk]
    write_tokenizer(train.documents + answers, arguments.out)
    write_held_out(held_out, arguments.out / "held_out.txt")
    source = TokenSource(train, arguments.out, arguments.seed)
    plan = Plan(minutes=arguments.minutes, seed=arguments.seed)
    torch.set_num_threads(plan.threads)
    trainer = Trainer(plan, source, held_out_windows(source, held_out), arguments.out)
    trainer.run()
    round_to_bfloat16(trainer.network)
    report = {"steps": trainer.step, "train_tokens": trainer.tokens}
    LOG.info("%s", json.dumps(report | evaluate(trainer.network, source, held_out, plan.seed)))


if __name__ == "__main__":
    main()
