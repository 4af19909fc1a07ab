"""Lowers to the edge dialect in two traces of the graph, not nine, with the same program.

On its way there executorch runs passes that each trace the whole graph anew, although they only
rewrite single operators. What such a pass leaves as it is it hands to `super`: a class that
inherits from several of them rewrites with all of them, in their order, in one trace. So said of
executorch 1.5.1; a test holds the bytes against those of its own way.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

_LISTED = "_get_aten_to_edge_passes"
_REPLACED = (
    _LISTED,
    "ReplaceViewOpsWithViewCopyOpsPass",
    "OpReplacePass",
    "MemoryFormatOpsPass",
)


@contextmanager
def fused_passes() -> Iterator[None]:
    """Let `to_edge_transform_and_lower` trace the graph once for each run of such passes."""
    from executorch.exir.program import _program

    known = {name: getattr(_program, name) for name in _REPLACED}
    _program._get_aten_to_edge_passes = lambda config: _fewer(*known[_LISTED](config))
    _program.ReplaceViewOpsWithViewCopyOpsPass = _nothing
    _program.OpReplacePass = _fused(
        _program.RemoveMixedTypeOperators, known["OpReplacePass"], known["MemoryFormatOpsPass"]
    )
    _program.MemoryFormatOpsPass = _nothing
    try:
        yield
    finally:
        for name, value in known.items():
            setattr(_program, name, value)


def _fewer(before: Sequence[Any], after: Sequence[Any]) -> tuple[list[Any], Sequence[Any]]:
    """Return executorch's passes with those that follow each other as one."""
    from executorch.exir.passes import (
        NormalizeTransposePass,
        ReplaceBrokenOpsWithFunctionalOpsPass,
        ScalarToTensorPass,
        SymToTensorPass,
    )
    from executorch.exir.passes.remove_mixed_type_operators import RemoveMixedTypeOperators

    neighbours = (
        NormalizeTransposePass,
        ReplaceBrokenOpsWithFunctionalOpsPass,
        ScalarToTensorPass,
        SymToTensorPass,
    )
    # executorch wraps the passes of its list in functions.
    kinds = [type(getattr(one, "__wrapped__", one)) for one in before]
    first = kinds.index(neighbours[0])
    assert tuple(kinds[first : first + len(neighbours)]) == neighbours, f"executorch runs {kinds}"
    assert kinds[-1] is RemoveMixedTypeOperators, f"executorch runs {kinds}"
    together = _fused(_unsafe_views(), *neighbours)()
    return [*before[:first], together, *before[first + len(neighbours) : -1]], after


def _fused(*passes: type[Any]) -> type[Any]:
    return type("Fused", passes, {})


def _unsafe_views() -> type[Any]:
    """Return the one rewriting of torch's pass on views that executorch's does not repeat."""
    import torch
    from executorch.exir.pass_base import ExportPass

    class UnsafeViews(ExportPass):
        def call_operator(self, op: Any, *rest: Any) -> Any:
            if op == torch.ops.aten._unsafe_view.default:
                op = torch.ops.aten.view_copy.default
            return super().call_operator(op, *rest)

    return UnsafeViews


def _nothing() -> Any:
    """Return a pass that changes nothing."""
    from torch.fx.passes.infra.pass_base import PassResult

    return lambda graph_module: PassResult(graph_module, False)
