"""Quantizes a GGUF file with llama.cpp's own quantizer, as its `llama-quantize` does."""

import argparse
import ctypes

import llama_cpp


def quantize(source: str, out: str, head: str | None, threads: int) -> None:
    """Write a Q4_0 file.

    Args:
        head: type of the table that is embedding and head; None is llama.cpp's own choice.

    Raises:
        SystemExit: llama.cpp refuses.
    """
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
    params.nthread = threads
    if head == "q4_0":
        params.token_embedding_type = params.output_tensor_type = llama_cpp.GGML_TYPE_Q4_0
    status = llama_cpp.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(params))
    if status != 0:
        raise SystemExit(f"{source}: llama_model_quantize: status {status}")


def main() -> None:
    """Read the command line and quantize."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("out")
    parser.add_argument("--head", choices=["q4_0"])
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    quantize(arguments.source, arguments.out, arguments.head, arguments.threads)


if __name__ == "__main__":
    main()
