"""Prints the logits that llama.cpp has after given ids: proves that a converted file is right."""

import argparse
import json

from benchmarks.workers.llama_cpp import LlamaModel, load, start_silently
from benchmarks.workers.measuring import Job


def main() -> None:
    """Read the command line, run, print one JSON list [V]."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("artifact")
    parser.add_argument("ids", help="JSON list")
    parser.add_argument("--vocab-size", type=int, required=True)
    arguments = parser.parse_args()
    ids = json.loads(arguments.ids)
    job = Job(
        artifact=arguments.artifact,
        threads=1,
        context_length=512,
        vocab_size=arguments.vocab_size,
        prefill_tokens=len(ids),
        prefill_repeats=0,
        depths=(),
        decode_steps=0,
    )
    log = start_silently()
    model = load(job)
    assert isinstance(model, LlamaModel)
    model.run(ids, 0)
    print(json.dumps(model.logits().tolist()))
    del log


if __name__ == "__main__":
    main()
