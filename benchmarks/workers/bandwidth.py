"""Measures how fast this machine's memory can be read: the floor under every decode step."""

import json
import sys
import time

import torch

_BYTES = 1 << 30
_REPEATS = 10


def read_bandwidth(threads: int) -> float:
    """Return bytes per second of the fastest of a few sums over an array larger than any cache."""
    torch.set_num_threads(threads)
    array = torch.ones(_BYTES // 4)
    fastest = float("inf")
    for _ in range(_REPEATS):
        start = time.perf_counter()
        array.sum()
        fastest = min(fastest, time.perf_counter() - start)
    return _BYTES / fastest


if __name__ == "__main__":
    print(json.dumps({"bytes_per_s": read_bandwidth(int(sys.argv[1]))}))
