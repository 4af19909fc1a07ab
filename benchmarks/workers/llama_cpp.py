"""Measures llama.cpp through llama-cpp-python's plain bindings of its C interface.

The package's `Llama` class is passed over: it would add a tokenizer and copies of logits.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from benchmarks.workers.measuring import Job, LoadedSystem, measure, read_job

# Tokens of one call and of one graph: llama.cpp's own defaults are 2,048 and 512.
_BATCH = 512
_FLASH_ATTENTION = {
    "auto": llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "off": llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED,
    "on": llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED,
}
_CACHE_TYPES = {"f16": llama_cpp.GGML_TYPE_F16, "q8_0": llama_cpp.GGML_TYPE_Q8_0}


class LlamaModel:
    """One context with one sequence."""

    def __init__(self, context: Any, vocab_size: int, states: Path | None) -> None:
        self._context = context
        self._vocab_size = vocab_size
        self._states = states
        self._memory = llama_cpp.llama_get_memory(context)

    def run(self, tokens: Sequence[int], position: int) -> int:
        if position == 0:
            llama_cpp.llama_memory_clear(self._memory, False)
        for start in range(0, len(tokens), _BATCH):
            self._decode(tokens[start : start + _BATCH])
        return int(np.argmax(self.logits()))

    def logits(self) -> Any:
        """Return the logits after the last token, float32 [V]; valid until the next run."""
        row = llama_cpp.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(row, (self._vocab_size,))

    def fill(self, position: int) -> bool:
        path = self._state(position)
        if path is None or not path.exists():
            return False
        tokens, count = (llama_cpp.llama_token * 1)(), ctypes.c_size_t()
        llama_cpp.llama_memory_clear(self._memory, False)
        loaded = llama_cpp.llama_state_seq_load_file(
            self._context, str(path).encode(), 0, tokens, 1, ctypes.byref(count)
        )
        if not loaded:
            raise SystemExit(f"{path}: llama.cpp cannot read its state; delete the file")
        return True

    def keep(self, position: int) -> None:
        path = self._state(position)
        if path is not None:
            path.parent.mkdir(exist_ok=True)
            tokens = (llama_cpp.llama_token * 1)()
            llama_cpp.llama_state_seq_save_file(self._context, str(path).encode(), 0, tokens, 0)

    def _state(self, position: int) -> Path | None:
        return self._states / f"{position}.state" if self._states else None

    def _decode(self, tokens: Sequence[int]) -> None:
        # A batch without positions and flags continues the sequence, with logits of its last token.
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        status = llama_cpp.llama_decode(
            self._context, llama_cpp.llama_batch_get_one(array, len(tokens))
        )
        if status != 0:
            raise SystemExit(f"llama_decode of {len(tokens)} tokens: status {status}")


def load(job: Job) -> LoadedSystem:
    """Load a GGUF file; settings `flash_attention`, `cache_type` and `states`, a folder."""
    model = llama_cpp.llama_model_load_from_file(
        job.artifact.encode(), llama_cpp.llama_model_default_params()
    )
    if not model:
        raise SystemExit(f"{job.artifact}: llama.cpp cannot load it")
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = job.context_length
    params.n_batch = params.n_ubatch = _BATCH
    # Without this the logits of a whole batch are planned for: 512 MB at this vocabulary.
    params.n_outputs_max = 1
    params.n_threads = params.n_threads_batch = job.threads
    params.flash_attn_type = _FLASH_ATTENTION[job.settings.get("flash_attention", "auto")]
    params.type_k = params.type_v = _CACHE_TYPES[job.settings.get("cache_type", "f16")]
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise SystemExit(f"{job.artifact}: llama.cpp cannot make a context")
    states = job.settings.get("states")
    return LlamaModel(context, job.vocab_size, Path(states) if states else None)


def load_for_logits(
    artifact: str, context_length: int, vocab_size: int, threads: int
) -> LlamaModel:
    """Load a GGUF file that nothing is measured of but its logits."""
    job = Job(
        artifact=artifact,
        threads=threads,
        context_length=context_length,
        vocab_size=vocab_size,
        prefill_tokens=1,
        prefill_repeats=0,
        depths=(),
        decode_steps=0,
    )
    model = load(job)
    assert isinstance(model, LlamaModel)
    return model


def start_silently() -> Any:
    """Initialize llama.cpp without its log; the result must stay alive as long as it runs."""

    def drop(level: int, text: bytes, user_data: Any) -> None:
        pass

    callback = llama_cpp.llama_log_callback(drop)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return callback


if __name__ == "__main__":
    log = start_silently()
    measure(read_job(), load)
