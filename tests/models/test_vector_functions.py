"""The first call of a vector function is one thread's, and rotary tables are exact."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from pocketlm.models.layers import inverse_frequencies, rotary_tables
from pocketlm.models.shapes import shape_of
from pocketlm.models.vector_functions import VECTOR_FUNCTIONS
from tests.conftest import TINY_PUBLISHED

# Prints the most numbers that the first call of each operator had, in a process of its own.
FIRST_CALLS = """
import json
import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode

sizes = {}


class FirstCalls(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if args and isinstance(args[0], torch.Tensor):
            name = f"{function.overloadpacket.__name__} {args[0].dtype}"
            sizes.setdefault(name, args[0].numel())
        return function(*args, **(kwargs or {}))


with FirstCalls():
    from pocketlm.models.decoder import Decoder
    from pocketlm.models.shapes import shape_of

    for published in json.loads(sys.argv[1]):
        Decoder(shape_of("tiny", published).config)(torch.zeros(1, 16, dtype=torch.int64))
print(json.dumps(sizes))
"""


def test_the_first_call_of_each_vector_function_is_on_one_number() -> None:
    command = [sys.executable, "-c", FIRST_CALLS, json.dumps(list(TINY_PUBLISHED.values()))]
    sizes = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert sizes["embedding torch.float32"] > 1  # the models ran
    types = (torch.float32, torch.float64)
    first = {name: sizes[f"{name} {dtype}"] for name in VECTOR_FUNCTIONS for dtype in types}
    assert set(first.values()) == {1}


@pytest.mark.parametrize("family", sorted(TINY_PUBLISHED))
def test_rotary_tables_are_the_cosines_of_angles_in_float32(family: str) -> None:
    config = shape_of("tiny", TINY_PUBLISHED[family]).config
    positions = np.arange(32_768)
    for rotary in config.rotaries:
        frequencies = inverse_frequencies(rotary)
        angles = positions.astype(np.float32)[:, None] * frequencies.numpy()
        tables = rotary_tables(torch.from_numpy(positions), frequencies)
        for table, function in zip(tables, (np.cos, np.sin), strict=True):
            exact = function(angles.astype(np.float64)).astype(np.float32)
            # Half a step of a float32 below 1, where two float64 lie on either side of it.
            np.testing.assert_allclose(table.numpy(), exact, rtol=0, atol=6e-8)
