"""Measures the stock onnxruntime-genai runner on the ONNX side of a device bundle."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime_genai as genai

from benchmarks.workers.measuring import Job, LoadedSystem, measure, read_job


class GenAiModel:
    """One model with one generator, prefilled in the bundle's chunks."""

    def __init__(self, job: Job) -> None:
        config = genai.Config(job.artifact)
        threads = {"session_options": {"intra_op_num_threads": job.threads}}
        config.overlay(json.dumps({"model": {"decoder": threads}}))
        self._model = genai.Model(config)
        self._params = genai.GeneratorParams(self._model)
        self._params.set_search_options(max_length=job.context_length, do_sample=False)
        written = json.loads((Path(job.artifact) / "genai_config.json").read_text())
        # genai cuts only a sequence's first prompt itself.
        self._chunk = int(written["search"]["chunk_size"])
        self._generator = genai.Generator(self._model, self._params)

    def run(self, tokens: Sequence[int], position: int) -> int:
        if position == 0:
            self._generator = genai.Generator(self._model, self._params)
        for start in range(0, len(tokens), self._chunk):
            self._generator.append_tokens(np.array(tokens[start : start + self._chunk], np.int32))
        return int(np.argmax(self._generator.get_logits()))

    def fill(self, position: int) -> bool:
        return False

    def keep(self, position: int) -> None:
        pass


def load(job: Job) -> LoadedSystem:
    """Load the bundle."""
    return GenAiModel(job)


if __name__ == "__main__":
    measure(read_job(), load)
