"""Quantizes a GGUF file with llama.cpp's own quantizer, as its `llama-quantize` does."""

import argparse
import ctypes
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

_TYPES = {
    "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
    "iq4_xs": llama_cpp.LLAMA_FTYPE_MOSTLY_IQ4_XS,
    "q4_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
}


def quantize(
    source: str,
    out: str,
    kind: str = "q4_0",
    head: str | None = None,
    importance: Path | None = None,
    threads: int = 2,
) -> None:
    """Write a quantized file.

    Args:
        kind: one of _TYPES.
        head: type of the table that is embedding and head; None is llama.cpp's own choice.
        importance: .npz of the mean squares of each channel of a tensor's inputs, by the tensor's
            name, as llama.cpp's `llama-imatrix` computes them.

    Raises:
        SystemExit: llama.cpp refuses.
    """
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = _TYPES[kind]
    params.nthread = threads
    if head == "q4_0":
        params.token_embedding_type = params.output_tensor_type = llama_cpp.GGML_TYPE_Q4_0
    kept = [_add_importance(params, importance)] if importance else []
    status = llama_cpp.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(params))
    if status != 0:
        raise SystemExit(f"{source}: llama_model_quantize: status {status}")
    kept.clear()


def _add_importance(params: Any, path: Path) -> Any:
    """Point the parameters at an importance matrix; the result must stay alive."""
    with np.load(path) as stored:
        values = {name: np.ascontiguousarray(stored[name], np.float32) for name in stored.files}
    # A last entry without a name ends the list.
    entries = (llama_cpp.llama_model_imatrix_data * (len(values) + 1))()
    for entry, (name, each) in zip(entries, values.items(), strict=False):
        entry.name = name.encode()
        entry.data = each.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        entry.size = each.size
    params.imatrix = entries
    return entries, values


def main() -> None:
    """Read the command line and quantize."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("out")
    parser.add_argument("--type", choices=[*_TYPES], default="q4_0")
    parser.add_argument("--head", choices=["q4_0"])
    parser.add_argument("--importance", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    quantize(given.source, given.out, given.type, given.head, given.importance, given.threads)


if __name__ == "__main__":
    main()
