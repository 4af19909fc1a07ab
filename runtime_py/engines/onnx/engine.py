"""Runs bundles in ONNX Runtime on the CPU.

Caches are ours: each is one buffer that the graph reads and writes in place. What a cache holds
follows from the position alone, so going back needs no copying.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketlm.runtime_py.components import Signature, TensorSignature
from pocketlm.runtime_py.engine import Engine, ExactForm, LoadedModel
from pocketlm.runtime_py.environment import environment_default
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.manifest import BackendEntry, CacheEntry, Manifest
from pocketlm.runtime_py.memory_advice import huge_page_heap, release_file_pages
from pocketlm.runtime_py.memory_prediction import heap_bytes

# Manifest options with these prefixes are session configuration entries.
_SESSION_PREFIXES = ("session.", "optimization.", "mlas.")
_ERRORS_ONLY = 3
# The output of a graph with logits after each token of a short call.
LOGITS_ROWS = "logits_rows"
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
# An AttributeProto's name, value (field 3) and type (field 20: INT), as protobuf writes them.
_ACCURACY_NAME = b"\x0a\x0eaccuracy_level"
_INT8_PRODUCTS = _ACCURACY_NAME + b"\x18\x04\xa0\x01\x02"
_FLOAT_PRODUCTS = _ACCURACY_NAME + b"\x18\x01\xa0\x01\x02"
_ELEMENT_TYPES = {"float32": "tensor(float)", "int8": "tensor(int8)", "int64": "tensor(int64)"}
_DTYPES = {element: dtype for dtype, element in _ELEMENT_TYPES.items()}


class OnnxModel:
    """One session with its caches, bound once."""

    def __init__(self, session: Any, manifest: Manifest, entry: BackendEntry) -> None:
        self.entry = entry
        self.vocab_size = int(manifest.model["vocab_size"])
        self.chunk = manifest.prefill_chunk
        self._session = session
        self._binding = session.io_binding()
        # Only the length of the mask is read.
        self._mask = np.ones((1, manifest.context_length), dtype=np.int64)
        self._logits = np.zeros((1, entry.logits_rows, entry.logits_size), dtype=np.float32)
        # Zeros are pages that become resident when they are written.
        self._caches = [_allocate(cache) for cache in entry.caches for _ in range(2)]
        self._bind_buffers()

    def run(self, tokens: Sequence[int], position: int) -> NDArray[np.float32]:
        """Process tokens at `position`; see LoadedModel."""
        assert 1 <= len(tokens) <= self.chunk, f"{len(tokens)} tokens; a chunk has {self.chunk}"
        total = position + len(tokens)
        assert total <= self._mask.shape[1], f"{total} positions; there are {self._mask.shape[1]}"
        self._binding.bind_cpu_input("input_ids", np.array([tokens], dtype=np.int64))
        self._binding.bind_cpu_input("attention_mask", self._mask[:, :total])
        most = self.entry.logits_rows
        # A longer call gives its last two: see last_rows in models/decoder.py.
        rows = len(tokens) if len(tokens) <= most else min(2, most)
        self._bind_logits(rows)
        self._session.run_with_iobinding(self._binding)
        return self._logits[0, :rows, : self.vocab_size].copy()

    def reset(self) -> None:
        """Forget every position: the next run at position 0 sees no older row."""

    def clear(self) -> None:
        """Make every slot zero; see LoadedModel."""
        for cache in self._caches:
            cache.fill(0)

    def close(self) -> None:
        """Release the runtime's memory."""
        self._binding = self._session = None
        self._caches = []

    def _bind_buffers(self) -> None:
        for index, buffer in enumerate(self._caches):
            layer, kind = index // 2, ("key", "value")[index % 2]
            # Bound to the same memory on both sides: the graph updates caches in binding.
            binding = ("cpu", 0, buffer.dtype.type, buffer.shape, buffer.ctypes.data)
            self._binding.bind_input(f"past_key_values.{layer}.{kind}", *binding)
            self._binding.bind_output(f"present.{layer}.{kind}", *binding)

    def _bind_logits(self, rows: int) -> None:
        # A graph with one row has no other output.
        name = "logits" if self.entry.logits_rows == 1 else LOGITS_ROWS
        logits = self._logits[:, :rows]
        self._binding.bind_output(name, "cpu", 0, np.float32, logits.shape, logits.ctypes.data)


def _allocate(cache: CacheEntry) -> NDArray[Any]:
    shape = (1, cache.num_key_value_heads, cache.capacity, cache.head_dim)
    return np.zeros(shape, dtype=cache.dtype)


def _load(
    folder: Path, manifest: Manifest, entry: BackendEntry, threads: int | None
) -> LoadedModel:
    return _open(folder, manifest, entry, threads, exact=False)


def _load_exact(
    folder: Path, manifest: Manifest, entry: BackendEntry, threads: int | None
) -> LoadedModel:
    return _open(folder, manifest, entry, threads, exact=True)


def _open(
    folder: Path, manifest: Manifest, entry: BackendEntry, threads: int | None, *, exact: bool
) -> LoadedModel:
    # Without this, releases for Linux keep an id of the machine and send statistics. They look when
    # they are imported; who wants that has set it.
    with environment_default("ORT_DISABLE_TELEMETRY", "1"):
        return _open_session(folder, manifest, entry, threads, exact=exact)


def _open_session(
    folder: Path, manifest: Manifest, entry: BackendEntry, threads: int | None, *, exact: bool
) -> LoadedModel:
    import onnxruntime

    path = folder / entry.model
    options = _session_options(onnxruntime, entry, threads)
    graph: Path | bytes = path
    if exact:
        graph = with_float_products(path)
        # A graph in memory does not know where its weights are.
        options.add_session_config_entry(_WEIGHTS_FOLDER, str(path.parent))
    try:
        with huge_page_heap(heap_bytes(manifest, ENGINE.name)), _attention(entry.options):
            session = onnxruntime.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"]
            )
    except _runtime_errors() as error:
        raise RunError(
            f"{path}: ONNX Runtime {onnxruntime.__version__} cannot load it: {error}; "
            "build the bundle again or check it with `pocketlm verify`"
        ) from error
    _check_inputs(path, session, entry)
    entry.decoder.check(path, _signature(session))
    # The kernels have packed copies of most weights; the rest comes back as it is read.
    release_file_pages(path.with_name(f"{path.name}.data"))
    return OnnxModel(session, manifest, entry)


def _session_options(onnxruntime: Any, entry: BackendEntry, threads: int | None) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    # 0 is the runtime's own choice: one thread a physical core.
    options.intra_op_num_threads = threads or 0
    for name, value in entry.options.items():
        if name.startswith(_SESSION_PREFIXES):
            options.add_session_config_entry(name, value)
    return options


def with_float_products(path: Path) -> bytes:
    """Return a graph's file with float32 products in every quantized layer, nothing else changed.

    `accuracy_level` 4 of MatMulNBits rounds activations to int8, 1 computes in float32. The number
    is changed where it stands in the file, so that no other byte of the graph can differ.

    Raises:
        RunError: the file cannot be read, or an attribute of that name is written another way.
    """
    try:
        graph = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}; copy the bundle again") from None
    if graph.count(_ACCURACY_NAME) != graph.count(_INT8_PRODUCTS):
        raise RunError(
            f"{path}: its layers have an accuracy_level other than 4, so what they round is not "
            "known; build the bundle again"
        )
    return graph.replace(_INT8_PRODUCTS, _FLOAT_PRODUCTS)


def _attention(options: Mapping[str, str]) -> AbstractContextManager[None]:
    """Choose the kernel that the bundle asks for; it is read when a session is made."""
    if options.get("attention") != "unfused":
        return nullcontext()
    return environment_default("ORT_GQA_DISABLE_FLASH_ATTENTION", "1")


def _runtime_errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = (value for value in vars(state).values() if isinstance(value, type))
    return tuple(value for value in found if issubclass(value, Exception))


def _check_inputs(path: Path, session: Any, entry: BackendEntry) -> None:
    """Hold the graph's cache inputs against the manifest's."""
    inputs = {value.name: value for value in session.get_inputs()}
    for layer, cache in enumerate(entry.caches):
        expected = [1, cache.num_key_value_heads, cache.capacity, cache.head_dim]
        element = _ELEMENT_TYPES[cache.dtype]
        for kind in ("key", "value"):
            name = f"past_key_values.{layer}.{kind}"
            found = inputs.get(name)
            if found is None or not _fits(found.shape, expected) or found.type != element:
                shown = "missing" if found is None else f"{found.type} of {found.shape}"
                raise RunError(
                    f"{path}: input {name} should be a {element} of {expected} by the manifest, "
                    f"but is {shown}; the model and the manifest are of different builds"
                )


def _signature(session: Any) -> Signature:
    inputs, outputs = (
        tuple(
            TensorSignature(value.name, _DTYPES.get(value.type, value.type), tuple(value.shape))
            for value in values
        )
        for values in (session.get_inputs(), session.get_outputs())
    )
    return Signature(inputs, outputs)


def _fits(found: Sequence[int | str], expected: Sequence[int]) -> bool:
    # Text is a free axis.
    return len(found) == len(expected) and all(
        isinstance(size, str) or size == wanted
        for size, wanted in zip(found, expected, strict=True)
    )


# Weights packed for float products are smaller: those for int8 products have sums beside them.
ENGINE = Engine(
    name="onnx",
    distributions=("onnxruntime",),
    load=_load,
    exact=ExactForm(_load_exact, lambda *_: 0),
    # Loads without torch, in half a second.
    rank=1,
)
