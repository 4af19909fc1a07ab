"""Checkpoint + recipe → WeightStore, tensor by tensor: memory follows one block of rows."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import torch
from numpy.typing import NDArray

from pocketlm.edge_build.calibration.measured import (
    NO_INPUT_STATISTICS,
    CalibrationStore,
    InputStatistic,
    InputStatistics,
)
from pocketlm.edge_build.progress import Advance
from pocketlm.edge_build.quantization import methods
from pocketlm.edge_build.quantization.finite import finite
from pocketlm.edge_build.quantization.kept_weights import KeptWeights
from pocketlm.edge_build.quantization.layer_by_layer import LayerPass, quantize_layers
from pocketlm.edge_build.quantization.own_grid import Keeper, find_grid
from pocketlm.edge_build.quantization.quantized_rows import (
    OwnGroups,
    QuantizedRows,
    quantized_rows,
)
from pocketlm.edge_build.quantization.recipe import OWN_GRID_METHOD, QuantRule, QuantScheme
from pocketlm.edge_build.quantization.tied_table import of_both_ends
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.models.checkpoint import Checkpoint
from pocketlm.runtime_py.manifest import ActivationQuantization, OwnGridEntry, TensorEntry

# Elements in one block of rows. Smaller ones stay in a core's own cache, but then the threads
# spend their time handing the interpreter to each other.
_BLOCK_ELEMENTS = 1 << 19


@dataclass(frozen=True)
class QuantizedModel:
    """The weights on disk, and what became of each tensor."""

    weights: WeightStore
    tensors: tuple[TensorEntry, ...]


@dataclass(frozen=True)
class Calibrated:
    """What methods that need data are given.

    Attributes:
        store: the calibration text, and statistics of a tied head's inputs.
        activations: what a backend rounds of layers' inputs.
    """

    store: CalibrationStore
    activations: ActivationQuantization = "none"


def quantize_weights(
    checkpoint: Checkpoint,
    rules: Mapping[str, QuantRule],
    folder: Path,
    advance: Advance,
    calibrated: Calibrated | None = None,
    key: str | None = None,
) -> QuantizedModel:
    """Write every weight to `folder`, quantized as its rule says.

    Those whose method needs statistics come last and in the model's order: each is quantized for
    what the layers before it, quantized already, give it.

    Args:
        advance: called with the bytes of the checkpoint that are read.
        key: of the build; with it an interrupted run's weights are taken over.

    Raises:
        BuildError: a weight is not finite.
    """
    kept = None if key is None else KeptWeights.of_build(folder, key)
    store = WeightStore(folder, {name: rule.scheme for name, rule in rules.items()})
    statistics = _layer_statistics(rules)
    writer = _WeightWriter(checkpoint, rules, folder, advance, kept)
    for name in rules:
        if name not in statistics:
            writer.quantize(name, partial(_head_inputs, calibrated, name))
    if statistics:
        assert calibrated is not None, "a method that needs data is given a text"
        text = LayerPass(calibrated.store.sequences, statistics, calibrated.activations)
        quantize_layers(checkpoint, store, text, writer.quantize)
    advance("quantize", writer.total, writer.total, "weights")
    return QuantizedModel(store, tuple(writer.entries[name] for name in rules))


def _layer_statistics(rules: Mapping[str, QuantRule]) -> dict[str, tuple[InputStatistic, ...]]:
    """Return what the methods of weights need to know that the layers' inputs tell.

    The table is quantized before anything runs, also where it is the head.
    """
    wanted = {
        name: methods.load(rule.scheme.method).statistics
        for name, rule in rules.items()
        if rule.scheme is not None and name != "embed_tokens"
    }
    return {name: kinds for name, kinds in wanted.items() if kinds}


def _head_inputs(calibrated: Calibrated | None, name: str) -> InputStatistics:
    return calibrated.store.inputs(name) if calibrated else NO_INPUT_STATISTICS


class _WeightWriter:
    """Quantizes one weight after the other and reports it."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        rules: Mapping[str, QuantRule],
        folder: Path,
        advance: Advance,
        kept: KeptWeights | None,
    ) -> None:
        self.checkpoint, self.rules, self.folder = checkpoint, rules, folder
        self.advance, self.kept = advance, kept
        self.total = sum(checkpoint.tensors[name].size_bytes for name in rules)
        self.done = 0
        self.entries: dict[str, TensorEntry] = {}

    def quantize(self, name: str, inputs: Callable[[], InputStatistics]) -> None:
        """Write a weight, or take over what an earlier run wrote; once."""
        if name in self.entries:
            return
        self._report_rows(name, 0)
        entry = self.kept.read(name) if self.kept else None
        if entry is None:
            entry = self._write(name, inputs)
            if self.kept is not None:
                self.kept.write(entry)
        self.entries[name] = entry
        self.done += self.checkpoint.tensors[name].size_bytes

    def _write(self, name: str, inputs: Callable[[], InputStatistics]) -> TensorEntry:
        rule, shape = self.rules[name], self.checkpoint.shape(name)
        report_rows = partial(self._report_rows, name)
        sqnr_db = own = None
        if rule.scheme is None:
            size_bytes = _store_float(self.checkpoint, name, self.folder, report_rows)
        else:
            work = _row_quantizer(self.checkpoint, name, rule.scheme, inputs)
            size_bytes, sqnr_db, own = _store_quantized(
                shape, self.folder / name, rule.scheme, work, report_rows
            )
        return TensorEntry(
            name=name,
            shape=tuple(shape),
            bits=rule.scheme.bits if rule.scheme else 32,
            group_size=rule.scheme.group_size if rule.scheme else None,
            size_bytes=size_bytes,
            sqnr_db=sqnr_db,
            reason=rule.reason,
            own_grid=own,
        )

    def _report_rows(self, name: str, rows: int) -> None:
        read = self.done + rows * self.checkpoint.tensors[name].row_bytes
        self.advance("quantize", read, self.total, name)


def _store_float(
    checkpoint: Checkpoint, name: str, folder: Path, report_rows: Callable[[int], None]
) -> int:
    shape = checkpoint.shape(name)
    with _NpyWriter(folder / f"{name}.float.npy", shape, np.dtype(np.float32)) as file:
        for start, stop in _row_blocks(shape):
            file.append(finite(name, checkpoint.read_rows(name, start, stop)).numpy())
            report_rows(stop)
    return 4 * math.prod(shape)


# Rows start..stop → what is stored of them
RowQuantizer = Callable[[tuple[int, int]], QuantizedRows]


def _row_quantizer(
    checkpoint: Checkpoint,
    name: str,
    scheme: QuantScheme,
    inputs: Callable[[], InputStatistics],
) -> RowQuantizer:
    if scheme.method == OWN_GRID_METHOD:
        return Keeper(checkpoint, name, scheme, find_grid(checkpoint, name))
    statistics = inputs()
    if name == "embed_tokens":
        # Only one that is the head too has any.
        statistics = of_both_ends(statistics)
    quantize = methods.load(scheme.method).prepare(scheme, statistics)

    def work(block: tuple[int, int]) -> QuantizedRows:
        weight = finite(name, checkpoint.read_rows(name, *block))
        return quantized_rows(weight, *quantize(weight), scheme)

    return work


def _store_quantized(
    shape: tuple[int, ...],
    path: Path,
    scheme: QuantScheme,
    work: RowQuantizer,
    report_rows: Callable[[int], None],
) -> tuple[int, float, OwnGridEntry | None]:
    """Return bytes, signal to noise ratio in dB, and what was kept of the checkpoint's grid.

    Args:
        path: of the weight's files, without their endings.
    """
    rows, in_features = shape
    groups = scheme.groups(in_features)
    codes = _codes_format(scheme, rows, in_features)
    signal = noise = 0.0
    written, own = 0, OwnGroups()
    with ExitStack() as stack:

        def writer(part: str, shape: tuple[int, ...], dtype: Any) -> _NpyWriter:
            file = path.with_name(f"{path.name}.{part}.npy")
            return stack.enter_context(_NpyWriter(file, shape, np.dtype(dtype)))

        codes_file = writer("codes", *codes)
        scales_file = writer("scales", (rows, groups), np.float32)
        zeros_file = writer("zero_points", (rows, groups), np.int8) if scheme.zero_points else None
        for done in _in_parallel(work, _row_blocks((rows, in_features))):
            codes_file.append(done.codes)
            scales_file.append(done.scales)
            if zeros_file is not None:
                assert done.zero_points is not None, "a scheme with zero points"
                zeros_file.append(done.zero_points)
            signal += done.signal
            noise += done.noise
            own += done.own or OwnGroups()
            written += len(done.codes)
            report_rows(written)
    size_bytes = math.prod(codes[0]) + 2 * rows * groups
    size_bytes += scheme.zero_point_bytes(rows, in_features)
    return size_bytes, _decibels(signal, noise), own.entry()


def _codes_format(
    scheme: QuantScheme, rows: int, in_features: int
) -> tuple[tuple[int, int], type[np.generic]]:
    """Return shape and type of a weight's codes, a byte each."""
    if scheme.bits == 4:
        return (rows, in_features // 2), np.uint8
    return (rows, in_features), np.int8


def _in_parallel(
    work: Callable[[tuple[int, int]], QuantizedRows], blocks: Sequence[tuple[int, int]]
) -> Iterator[QuantizedRows]:
    """Yield the results in order, a block a core at a time and a few ahead.

    Each core takes blocks of its own. Sharing one block between cores, as torch does by itself,
    makes them wait for each other after every operation of a tenth of a millisecond.
    """
    threads = torch.get_num_threads()
    waiting: deque[Future[QuantizedRows]] = deque()
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
