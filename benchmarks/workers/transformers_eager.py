"""Measures transformers in bfloat16, eager: what a checkpoint does without any of these tools."""

from collections.abc import Sequence

import torch
import transformers

from benchmarks.workers.measuring import Job, LoadedSystem, measure, read_job


class EagerModel:
    """The model of a checkpoint with transformers' own growing cache."""

    def __init__(self, job: Job) -> None:
        torch.set_num_threads(job.threads)
        self._model = transformers.AutoModelForCausalLM.from_pretrained(
            job.artifact, dtype=torch.bfloat16
        ).eval()
        self._past = self._empty()

    def run(self, tokens: Sequence[int], position: int) -> int:
        if position == 0:
            self._past = self._empty()
        output = self._model(
            torch.tensor([list(tokens)]), past_key_values=self._past, logits_to_keep=1
        )
        return int(output.logits[0, -1].argmax())

    def fill(self, position: int) -> bool:
        return False

    def keep(self, position: int) -> None:
        pass

    def _empty(self) -> transformers.DynamicCache:
        return transformers.DynamicCache(config=self._model.config)


def load(job: Job) -> LoadedSystem:
    """Load the checkpoint."""
    return EagerModel(job)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    # Imported before the interpreter's memory is read, as in every other worker.
    from transformers.models.auto import modeling_auto  # noqa: F401

    measure(read_job(), load)
