"""What quantization cost, per tensor: rows for a table and for JSON."""

from collections.abc import Sequence

from pocketlm.runtime_py.manifest import TensorEntry


def summarize(tensors: Sequence[TensorEntry]) -> dict[str, float | int]:
    """Return the totals of a model: bytes, bits per weight, and the worst tensor's SQNR in dB."""
    elements = sum(_elements(tensor) for tensor in tensors)
    size_bytes = sum(tensor.size_bytes for tensor in tensors)
    measured = [tensor.sqnr_db for tensor in tensors if tensor.sqnr_db is not None]
    summary: dict[str, float | int] = {
        "parameters": elements,
        "size_bytes": size_bytes,
        "bits_per_weight": round(8 * size_bytes / elements, 3),
        "quantized_tensors": len(measured),
        "float_tensors": len(tensors) - len(measured),
    }
    if measured:
        summary["worst_sqnr_db"] = min(measured)
    return summary


def _elements(tensor: TensorEntry) -> int:
    count = 1
    for size in tensor.shape:
        count *= size
    return count
