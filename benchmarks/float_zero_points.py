"""Question: is ONNX Runtime's 4-bit product as fast with float zero points as with whole ones?

Blocks of GGUF's Q4_1 and Q4_K are code * scale + minimum, so that an exact import needs a zero
point of -minimum / scale, which is no whole number.
Method: one MatMulNBits of 4096 by 4096 in groups of 32 at accuracy level 4, the same codes and
scales, with no zero points, whole ones and float ones; a session each, in turn.
Units: seconds a product, medians of the rounds with least and most.
Command: python -m benchmarks.float_zero_points
The last line of stdout is the JSON document that is saved below benchmarks/results/.
"""

import argparse
import json
import time
from dataclasses import asdict
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks import machine
from benchmarks.documents import RESULTS, save, today, versions
from benchmarks.figures import Spread, ratio
from benchmarks.processes import Guard

_SIZE, _GROUP = 4096, 32
_ROWS = (1, 128)
_KINDS = ("none", "whole", "float")


def session(kind: str, threads: int) -> onnxruntime.InferenceSession:
    """Return a session of one product [rows, 4096] x [4096, 4096]."""
    random = np.random.default_rng(0)
    groups = _SIZE // _GROUP
    codes = random.integers(0, 256, (_SIZE, groups, _GROUP // 2), np.uint8)
    scales = random.uniform(0.01, 0.02, (_SIZE, groups)).astype(np.float32)
    weights: dict[str, NDArray[Any]] = {"codes": codes, "scales": scales}
    if kind == "whole":
        weights["zero_points"] = random.integers(0, 256, (_SIZE, groups // 2), np.uint8)
    elif kind == "float":
        weights["zero_points"] = random.uniform(6, 9, (_SIZE, groups)).astype(np.float32)
    node = helper.make_node(
        "MatMulNBits",
        ["x", *weights],
        ["y"],
        domain="com.microsoft",
        K=_SIZE,
        N=_SIZE,
        bits=4,
        block_size=_GROUP,
        accuracy_level=4,
    )
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", _SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", _SIZE])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    content = model.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def measure(rows: int, threads: int, rounds: int, repeats: int) -> dict[str, Any]:
    """Time every kind, in turn."""
    sessions = {kind: session(kind, threads) for kind in _KINDS}
    x = {"x": np.random.default_rng(1).standard_normal((rows, _SIZE), np.float32)}
    times: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    for number in range(rounds + 1):
        for kind, one in sessions.items():
            begun = time.perf_counter()
            for _ in range(repeats):
                one.run(None, x)
            if number:
                times[kind].append((time.perf_counter() - begun) / repeats)
    spreads = {kind: Spread.of(found) for kind, found in times.items()}
    ratios = {kind: ratio(spreads[kind].median, spreads["whole"].median) for kind in _KINDS}
    print(f"{rows} rows: time to that with whole zero points {ratios}", flush=True)
    return {
        "rows": rows,
        "product_s": {kind: asdict(spread) for kind, spread in spreads.items()},
        "ratios": ratios,
    }


def main() -> None:
    """Read the command line, run, save and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=machine.physical_cores())
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    parser.add_argument("--no-save", action="store_true", help="print only")
    given = parser.parse_args()
    with Guard(given.force).alone():
        found = [measure(rows, given.threads, given.rounds, 8) for rows in _ROWS]
    document = {
        "date": today(),
        "threads": given.threads,
        "machine": machine.describe(),
        "versions": versions("onnxruntime"),
        "products": found,
    }
    if not given.no_save:
        save(document, RESULTS / f"{document['date']}-float-zero-points.json")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
