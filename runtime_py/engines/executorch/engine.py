"""The ExecuTorch engine: runs executorch/model.pte with the operators of stock LLM runners."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from pocketlm.runtime_py.components import Signature, TensorSignature
from pocketlm.runtime_py.engine import Engine, ExactForm
from pocketlm.runtime_py.engines.executorch import metadata, program_file
from pocketlm.runtime_py.engines.executorch.float_twin import write_float_twin
from pocketlm.runtime_py.environment import environment_default
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.manifest import BackendEntry, Manifest
from pocketlm.runtime_py.memory_advice import huge_page_heap, release_file_pages
from pocketlm.runtime_py.memory_prediction import heap_bytes
from pocketlm.runtime_py.process_tuning import may_tune_process

METHOD = "forward"
_OPERATOR_LIBRARIES = (
    "kernels/quantized/*quantized_ops_aot_lib*",
    "extension/llm/custom_ops/*custom_ops_aot_lib*",
)


class LoadedProgram:
    """One loaded .pte; its caches are buffers inside the program."""

    def __init__(
        self, open_program: Callable[[], Any], manifest: Manifest, entry: BackendEntry
    ) -> None:
        import torch

        self._torch = torch
        self._open_program = open_program
        self._program = open_program()
        self._vocab_size = manifest.vocab_size
        self._entry = entry
        self._resources = ExitStack()

    def run(self, tokens: Sequence[int], position: int) -> NDArray[np.float32]:
        assert self._program is not None, "the model was closed"
        new_tokens = self._torch.tensor([list(tokens)], dtype=self._torch.int64)
        input_pos = self._torch.tensor([position], dtype=self._torch.int64)
        try:
            (logits,) = self._program.run_method(METHOD, (new_tokens, input_pos), False)
        except RuntimeError as error:
            raise RunError(
                f"executorch: {len(tokens)} tokens at position {position} failed: {error}; "
                "reset the session, or build the bundle again"
            ) from error
        rows: NDArray[np.float32] = logits.numpy()[0, :, : self._vocab_size].copy()
        return rows

    def reset(self) -> None:
        """Nothing to clear: masks follow from the position, so old slots are never looked at."""

    def clear(self) -> None:
        """Open the program anew: its buffers begin as zeros, and nothing else sets them back."""
        self._program = None
        self._program = self._open_program()

    def close(self) -> None:
        self._program = None
        self._resources.close()

    def keep(self, resources: ExitStack) -> None:
        """Hold what the program needs on disk until it is closed."""
        self._resources = resources


def load(
    folder: Path, manifest: Manifest, entry: BackendEntry, threads: int | None
) -> LoadedProgram:
    """Load a bundle's .pte.

    Args:
        threads: of the whole process, because ExecuTorch has one thread pool; None is the physical
            cores in a process that is ours to tune, elsewhere the pool as it is.

    Raises:
        RunError: executorch is missing, or the file is not a program that it can run.
    """
    with _quiet():
        runtime = _import_runtime()
        _choose_threads(runtime, threads)
    path = folder / entry.model
    model = LoadedProgram(lambda: _open(runtime, path, entry), manifest, entry)
    # The first call packs the weights. What it writes at position 0 nobody sees: see `reset`.
    with _quiet(), huge_page_heap(heap_bytes(manifest, ENGINE.name)):
        model.run([0], 0)
    release_file_pages(path)
    return model


def _choose_threads(runtime: Any, threads: int | None) -> None:
    if threads is None and not may_tune_process():
        return
    wanted = threads or psutil.cpu_count(logical=False) or 1
    # A program that is loaded holds on to the pool: with a new one under it, it answers wrongly.
    if runtime._threadpool_get_thread_count() != wanted:
        runtime._unsafe_reset_threadpool(wanted)


def metadata_differences(
    folder: Path, manifest: Manifest, entry: BackendEntry
) -> Iterator[tuple[str, str, str]]:
    """Yield what a bundle's .pte tells stock runners and the manifest says otherwise."""
    with _quiet():
        program = _open(_import_runtime(), folder / entry.model, entry)
    yield from metadata.differences(program, manifest)


def _open(runtime: Any, path: Path, entry: BackendEntry) -> Any:
    with _quiet() as notices:
        try:
            program = runtime._load_for_executorch(str(path))
            meta = program.method_meta(METHOD)
        except (RuntimeError, ValueError) as error:
            raise RunError(
                f"{path}: executorch cannot load it ({error}; {notices()}); "
                "build the bundle again or copy it again"
            ) from error
    # A size that a call decides is given as the most that it may be.
    sizes, wanted = (
        list(meta.output_tensor_meta(0).sizes()),
        [1, entry.logits_rows, entry.logits_size],
    )
    if meta.num_inputs() != 2 or sizes != wanted:
        raise RunError(
            f"{path}: expected tokens and a position in and {wanted} logits out, found "
            f"{meta.num_inputs()} inputs and {sizes}; build the bundle again"
        )
    entry.decoder.check(path, _signature(meta))
    return program


def _signature(meta: Any) -> Signature:
    inputs = (meta.input_tensor_meta(i) for i in range(meta.num_inputs()))
    outputs = (meta.output_tensor_meta(i) for i in range(meta.num_outputs()))
    return Signature(tuple(map(_tensor_signature, inputs)), tuple(map(_tensor_signature, outputs)))


def _tensor_signature(tensor: Any) -> TensorSignature:
    kind = tensor.dtype()
    dtype = program_file.DTYPES.get(kind, f"type {kind}")
    return TensorSignature(None, dtype, tuple(tensor.sizes()))


def _import_runtime() -> Any:
    """Return the runtime's bindings, with the operators registered that programs name.

    The package's own modules for both would import its compiler as well: 140 MB and 3 seconds.
    """
    try:
        with _one_thread_per_product():
            import torch

        runtime = import_module("executorch.extension.pybindings._C")
        package = Path(str(runtime.__file__)).parents[2]
        for pattern in _OPERATOR_LIBRARIES:
            torch.ops.load_library(next(package.glob(pattern)))
    except (ImportError, OSError, StopIteration) as error:
        raise RunError(
            f"backend executorch: cannot import its runtime ({error or 'a library is missing'}); "
            "pocketlm doctor names the command that installs it"
        ) from error
    return runtime


def _one_thread_per_product() -> AbstractContextManager[None]:
    """Have the BLAS that torch loads start no threads of its own.

    The attention operator calls it from every thread of ExecuTorch's pool. Teams of more threads
    below those fought for the cores: a decode step of the 1B shape took 1.4 times as long. Only
    the environment reaches threads that torch did not start, and it is read once, at the import;
    a process that imported torch before keeps its setting, and so does one not ours to tune.
    """
    if not may_tune_process():
        return nullcontext()
    return environment_default("OMP_NUM_THREADS", "1")


@contextmanager
def _quiet() -> Iterator[Any]:
    """Catch what the C++ side writes to stderr; yield a function that returns its last line.

    It writes to file descriptor 2, which is the whole process's: only where that is ours to tune.
    """
    if not may_tune_process():
        yield lambda: "its notices are on stderr"
        return
    with tempfile.TemporaryFile() as caught:

        def last_line() -> str:
            caught.seek(0)
            lines = caught.read().decode(errors="replace").split("\n")
            return next((line for line in reversed(lines) if line), "no further notice")

        kept = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            yield last_line
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def load_twin(
    folder: Path, manifest: Manifest, entry: BackendEntry, threads: int | None
) -> LoadedProgram:
    """Load the float32 twin of a bundle's .pte; its file is gone when the model is closed.

    Raises:
        RunError: as `load`, or there is no room for the twin.
    """
    with ExitStack() as resources:
        twin = Path(
            resources.enter_context(
                tempfile.TemporaryDirectory(prefix="pocketlm-twin-", dir=_roomy_folder())
            )
        )
        with _quiet():
            _import_runtime()
        write_float_twin(folder / entry.model, twin / "model.pte")
        model = load(twin, manifest, replace(entry, model="model.pte"), threads)
        model.keep(resources.pop_all())
    return model


def _roomy_folder() -> str | None:
    """Return where large temporary files belong: /tmp may be memory, /var/tmp is a disk."""
    disk = "/var/tmp"
    return disk if "TMPDIR" not in os.environ and os.access(disk, os.W_OK) else None


def _twin_extra_bytes(manifest: Manifest, entry: BackendEntry) -> int:
    """Return how much larger the twin's linear weights are, once packed."""
    names = {tensor.name for tensor in manifest.tensors}
    linear = [
        tensor
        for tensor in manifest.tensors
        if len(tensor.shape) == 2
        and tensor.bits < 32
        # An embedding that is no head as well is gathered from, never multiplied.
        and (tensor.name != "embed_tokens" or "lm_head" not in names)
    ]
    return sum(4 * prod(tensor.shape) - tensor.size_bytes for tensor in linear)


ENGINE = Engine(
    name="executorch",
    distributions=("executorch", "torch"),
    load=load,
    exact=ExactForm(load_twin, _twin_extra_bytes),
    metadata_differences=metadata_differences,
    rank=2,
    packed_cache=True,
)
