"""What quantization cost, per tensor: rows for a table and for JSON."""

from collections.abc import Sequence

from pocketlm.runtime_py.manifest import TensorEntry
from pocketlm.runtime_py.terminal import share_text


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


def kept_grid_notes(tensors: Sequence[TensorEntry]) -> tuple[str, ...]:
    """Say how much of the checkpoint's own grids was kept, and what the rest costs."""
    of_grids = [(tensor, tensor.own_grid) for tensor in tensors if tensor.own_grid]
    lossy = [tensor for tensor, own in of_grids if own.kept < own.groups]
    if not of_grids:
        return ()
    exact = len(of_grids) - len(lossy)
    notes = [f"The checkpoint's own codes and scales: {exact} weights have all of them exactly."]
    if lossy:
        owns = [tensor.own_grid for tensor in lossy if tensor.own_grid]
        groups = sum(own.groups for own in owns)
        counts = [(own.on_grid, own.codes_kept, own.kept) for own in owns]
        on_grid, codes, kept = (share_text(sum(one), groups) for one in zip(*counts, strict=True))
        shares = (
            f"{on_grid} of their groups are on a grid, {codes} have their own codes, {kept} their "
            "own scales too"
        )
        worst = min(tensor.sqnr_db for tensor in lossy if tensor.sqnr_db is not None)
        name = next(tensor.name for tensor in lossy if tensor.sqnr_db == worst)
        notes.append(
            f"{len(lossy)} weights on a grid of the checkpoint were fitted to another: {shares}; "
            f"signal to noise ratio {worst} dB and more, lowest in {name}."
        )
    return tuple(notes)


def _elements(tensor: TensorEntry) -> int:
    count = 1
    for size in tensor.shape:
        count *= size
    return count
