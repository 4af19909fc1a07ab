"""Writes the logits that llama.cpp has before each token of passages, float32, row after row."""

import argparse
import json
from pathlib import Path

from benchmarks.workers.llama_cpp import load_for_logits, start_silently


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
    log = start_silently()
    longest = max(map(len, passages))
    model = load_for_logits(given.artifact, longest + 1, given.vocab_size, given.threads)
    with given.out.open("wb") as file:
        for ids in passages:
            for position, token in enumerate(ids[:-1]):
                model.run([token], position)
                file.write(model.logits().tobytes())
    del log


if __name__ == "__main__":
    main()
