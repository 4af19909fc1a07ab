"""Measures one backend of a device bundle through the engine that sessions use."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.workers.measuring import Job, LoadedSystem, measure, read_job
from pocketlm.runtime_py import engines
from pocketlm.runtime_py.bundle import read_bundle
from pocketlm.runtime_py.engine import LoadedModel
from pocketlm.runtime_py.engines.onnx.engine import OnnxModel
from pocketlm.runtime_py.process_tuning import process_tuning


class BundleModel:
    """One loaded artifact, prefilled in the bundle's own chunks."""

    def __init__(self, model: LoadedModel, chunk: int) -> None:
        self._model = model
        self._chunk = chunk

    def run(self, tokens: Sequence[int], position: int) -> int:
        rows = None
        for start in range(0, len(tokens), self._chunk):
            rows = self._model.run(tokens[start : start + self._chunk], position + start)
        assert rows is not None, "no tokens"
        return int(np.argmax(rows[-1]))

    def fill(self, position: int) -> bool:
        # What rows hold changes no cost, but rows that were never written share one page of zeros,
        # which would be read from the processor's cache. ExecuTorch writes all of its caches when
        # the program first runs.
        if isinstance(self._model, OnnxModel):
            generator = np.random.default_rng(0)
            for buffer in self._model._caches:
                rows = buffer[:, :, :position]
                rows[...] = generator.integers(-100, 100, rows.shape, np.int8)
        # The last chunk for real: its temporary memory belongs to a prompt of this length.
        self.run([1] * self._chunk, position - self._chunk)
        return True

    def keep(self, position: int) -> None:
        pass


def load(job: Job) -> LoadedSystem:
    """Load the artifact; hashes are not checked, as no other system has them."""
    bundle = read_bundle(Path(job.artifact))
    backend = job.settings["backend"]
    entry = bundle.backend(backend)
    engine = engines.load(backend)
    model = engine.load(bundle.folder, bundle.manifest, entry, job.threads)
    return BundleModel(model, bundle.manifest.prefill_chunk)


def import_runtime(backend: str) -> None:
    """Import what the engine imports when it loads, so that the interpreter can be told apart."""
    module = engines.load(backend)
    if backend == "executorch":
        from pocketlm.runtime_py.engines.executorch.engine import _import_runtime

        _import_runtime()
    else:
        import onnxruntime  # noqa: F401
    assert module.name == backend


if __name__ == "__main__":
    requested = read_job()
    with process_tuning():  # as the commands run it
        import_runtime(requested.settings["backend"])
        measure(requested, load)
