"""Checkpoint + recipe → WeightStore, tensor by tensor: memory follows one block of rows."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketlm.edge_build.calibration.measured import NO_INPUT_STATISTICS, CalibrationStore
from pocketlm.edge_build.progress import Advance
from pocketlm.edge_build.quantization import methods
from pocketlm.edge_build.quantization.finite import finite
from pocketlm.edge_build.quantization.recipe import QuantRule, QuantScheme
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.models.checkpoint import Checkpoint
from pocketlm.runtime_py.int4_packing import pack_int4
from pocketlm.runtime_py.manifest import TensorEntry

# Elements in one block of rows. Smaller ones stay in a core's own cache, but then the threads
# spend their time handing the interpreter to each other.
_BLOCK_ELEMENTS = 1 << 19


@dataclass(frozen=True)
class QuantizedModel:
    """The weights on disk, and what became of each tensor."""

    weights: WeightStore
    tensors: tuple[TensorEntry, ...]


def quantize_weights(
    checkpoint: Checkpoint,
    rules: Mapping[str, QuantRule],
    folder: Path,
    advance: Advance,
    calibration: CalibrationStore | None = None,
) -> QuantizedModel:
    """Write every weight to `folder`, quantized as its rule says.

    Args:
        advance: called with the bytes of the checkpoint that are read.
        calibration: what the rules' methods need to know of activations.

    Raises:
        BuildError: a weight is not finite.
    """
    total = sum(checkpoint.tensors[name].size_bytes for name in rules)
    done = 0
    entries = []
    for name, rule in rules.items():
        shape = checkpoint.shape(name)

        def report_rows(rows: int, name: str = name, before: int = done) -> None:
            advance("quantize", before + rows * checkpoint.tensors[name].row_bytes, total, name)

        report_rows(0)
        if rule.scheme is None:
            size_bytes, sqnr_db = _store_float(checkpoint, name, folder, report_rows), None
        else:
            inputs = calibration.inputs(name) if calibration else NO_INPUT_STATISTICS
            prepared = methods.load(rule.scheme.method).prepare(rule.scheme, inputs)
            quantize = partial(_quantize_rows, scheme=rule.scheme, quantize=prepared)
            size_bytes, sqnr_db = _store_quantized(
                checkpoint, name, rule.scheme, quantize, folder, report_rows
            )
        entries.append(
            TensorEntry(
                name=name,
                shape=tuple(shape),
                bits=rule.scheme.bits if rule.scheme else 32,
                group_size=rule.scheme.group_size if rule.scheme else None,
                size_bytes=size_bytes,
                sqnr_db=sqnr_db,
                reason=rule.reason,
            )
        )
        done += checkpoint.tensors[name].size_bytes
    advance("quantize", total, total, "weights")
    schemes = {name: rule.scheme for name, rule in rules.items()}
    return QuantizedModel(WeightStore(folder, schemes), tuple(entries))


def _store_float(
    checkpoint: Checkpoint, name: str, folder: Path, report_rows: Callable[[int], None]
) -> int:
    shape = checkpoint.shape(name)
    with _NpyWriter(folder / f"{name}.float.npy", shape, np.dtype(np.float32)) as file:
        for start, stop in _row_blocks(shape):
            file.append(finite(name, checkpoint.read_rows(name, start, stop)).numpy())
            report_rows(stop)
    return 4 * math.prod(shape)


@dataclass(frozen=True)
class _QuantizedRows:
    """A block of rows, quantized; signal and noise are sums of squares."""

    codes: NDArray[Any]
    scales: NDArray[np.float32]
    signal: float
    noise: float


def _store_quantized(
    checkpoint: Checkpoint,
    name: str,
    scheme: QuantScheme,
    quantize: Callable[[Tensor], _QuantizedRows],
    folder: Path,
    report_rows: Callable[[int], None],
) -> tuple[int, float]:
    """Return the bytes of codes and bf16 scales, and the signal to noise ratio in dB."""
    rows, in_features = checkpoint.shape(name)
    groups = scheme.groups(in_features)
    packed_shape = (rows, in_features // 2 if scheme.bits == 4 else in_features)
    code_dtype = np.dtype(np.uint8 if scheme.bits == 4 else np.int8)
    signal = noise = 0.0
    written = 0

    def work(block: tuple[int, int]) -> _QuantizedRows:
        return quantize(finite(name, checkpoint.read_rows(name, *block)))

    with (
        _NpyWriter(folder / f"{name}.codes.npy", packed_shape, code_dtype) as codes_file,
        _NpyWriter(folder / f"{name}.scales.npy", (rows, groups), np.dtype(np.float32)) as scales_f,
    ):
        for done in _in_parallel(work, _row_blocks((rows, in_features))):
            codes_file.append(done.codes)
            scales_f.append(done.scales)
            signal += done.signal
            noise += done.noise
            written += len(done.codes)
            report_rows(written)
    size_bytes = math.prod(packed_shape) * code_dtype.itemsize + 2 * rows * groups
    return size_bytes, _decibels(signal, noise)


def _quantize_rows(
    weight: Tensor, scheme: QuantScheme, quantize: methods.Quantize
) -> _QuantizedRows:
    codes, scales = quantize(weight)
    grouped = weight.reshape(*scales.shape, -1)
    noise = torch.addcmul(
        grouped, codes.reshape(grouped.shape).float(), scales.unsqueeze(-1), value=-1
    )
    return _QuantizedRows(
        codes=pack_int4(codes.numpy()) if scheme.bits == 4 else codes.numpy(),
        scales=scales.numpy(),
        signal=_sum_of_squares(weight),
        noise=_sum_of_squares(noise),
    )


def _sum_of_squares(values: Tensor) -> float:
    flat = values.flatten()
    return float(torch.dot(flat, flat))


def _in_parallel(
    work: Callable[[tuple[int, int]], _QuantizedRows], blocks: Sequence[tuple[int, int]]
) -> Iterator[_QuantizedRows]:
    """Yield the results in order, a block a core at a time and a few ahead.

    Each core takes blocks of its own. Sharing one block between cores, as torch does by itself,
    makes them wait for each other after every operation of a tenth of a millisecond.
    """
    threads = torch.get_num_threads()
    waiting: deque[Future[_QuantizedRows]] = deque()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for block in blocks:
                waiting.append(pool.submit(work, block))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for rest in waiting:
                rest.cancel()
            # The initializer set it for its own thread, and for the BLAS of all.
            torch.set_num_threads(threads)


def _decibels(signal: float, noise: float) -> float:
    """Return 10 log10(signal / noise); 200 for a tensor that the grid holds exactly."""
    if noise <= signal * 1e-20:
        return 200.0
    return round(10 * math.log10(signal / noise), 2)


def _row_blocks(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    rows = shape[0]
    step = max(1, _BLOCK_ELEMENTS // max(1, math.prod(shape[1:])))
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]


class _NpyWriter:
    """Writes one .npy array by appending blocks of rows."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._file: BinaryIO = path.open("wb")
        header = {"descr": dtype.str, "fortran_order": False, "shape": tuple(shape)}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._dtype = dtype

    def append(self, rows: NDArray[Any]) -> None:
        assert rows.dtype == self._dtype, f"{rows.dtype} rows in a {self._dtype} file"
        self._file.write(np.ascontiguousarray(rows).tobytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        self._file.close()
