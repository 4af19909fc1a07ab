"""Question: how fast, how large and how hungry is pocketlm beside the systems that do the same job?

Method: one checkpoint of a published shape with random weights, built for every system; then
rounds, A B C A B C: each measurement is a fresh process of that system's own interpreter, fed the
same token ids with the same number of threads, on a machine that is checked to be idle. Prefill is
512 tokens in empty caches after a cold run of them; decode is the median of 64 steps after 1,024
tokens; figures are medians over the rounds with least and most.
Units: tokens per second, seconds, bytes.
Command: python benchmarks/suite.py gemma-3-1b --systems executorch-g32,llama-q4_0 --rounds 3
The last line of stdout is the JSON document that is saved below benchmarks/results/.
"""

import sys
from pathlib import Path

# Workers of other interpreters import the same modules, and benchmarks are installed nowhere.
sys.path.insert(0, str(Path(__file__).parents[1]))

if __name__ == "__main__":
    from benchmarks.command import main

    main()
