"""Prints the logits that llama.cpp has after given ids: proves that a converted file is right."""

import argparse
import json

from benchmarks.workers.llama_cpp import load_for_logits, start_silently


def main() -> None:
    """Read the command line, run, print one JSON list [V]."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("artifact")
    parser.add_argument("ids", help="JSON list")
    parser.add_argument("--vocab-size", type=int, required=True)
    arguments = parser.parse_args()
    ids = json.loads(arguments.ids)
    log = start_silently()
    model = load_for_logits(arguments.artifact, 512, arguments.vocab_size, threads=1)
    model.run(ids, 0)
    print(json.dumps(model.logits().tolist()))
    del log


if __name__ == "__main__":
    main()
