"""Writes the logits that llama.cpp has before each token of passages, float32, row after row."""

import argparse
import json
from pathlib import Path

from benchmarks.workers.llama_cpp import LlamaModel, load, start_silently
from benchmarks.workers.measuring import Job


def main() -> None:
    """Read the command line, run each passage from empty caches, write every row but the last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("artifact")
    parser.add_argument("passages", type=Path, help="JSON, a list of lists of ids")
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocab-size", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    passages = json.loads(given.passages.read_text())
    job = Job(
        artifact=given.artifact,
        threads=given.threads,
        context_length=max(map(len, passages)) + 1,
        vocab_size=given.vocab_size,
        prefill_tokens=1,
        prefill_repeats=0,
        depths=(),
        decode_steps=0,
    )
    log = start_silently()
    model = load(job)
    assert isinstance(model, LlamaModel)
    with given.out.open("wb") as file:
        for ids in passages:
            for position, token in enumerate(ids[:-1]):
                model.run([token], position)
                file.write(model.logits().tobytes())
    del log


if __name__ == "__main__":
    main()
