"""Deliberate faults of an ExecuTorch program, each small: what `verify` must see
(docs/numerics.md).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from pocketlm.models.config import Rotary
from pocketlm.models.layers import inverse_frequencies
from tests.corruptions.bundle_copy import (
    BELOW_FLOAT_NOISE,
    NEVER_FED,
    Change,
    Corruption,
    exchange,
    flip,
    noise,
    times,
)
from tests.corruptions.program_copy import ProgramCopy, nodes
from tests.corruptions.settings_faults import SETTINGS

Fault = Callable[[ProgramCopy], object]

# Arguments of the attention operator.
_MASK, _CAUSAL, _SCALE = 4, 6, 7


def _windows(change: int) -> Fault:
    def apply(copy: ProgramCopy) -> None:
        (call,) = copy.calls("aten::lt")
        call.args[1] = copy.add_number(copy.number(call.args[1]) + change)

    return apply


def _window(layer: int, change: int) -> Fault:
    """Give one layer a mask of its own."""

    def apply(copy: ProgramCopy) -> None:
        (call,) = copy.calls("aten::lt")
        attention = copy.attention(layer)
        copies = copy.copied_chain(call, [attention.args[_MASK]])
        window = copy.add_number(copy.number(call.args[1]) + change)
        own = next(c for c in copy.calls("aten::lt") if c.args[-1] == copies[call.args[-1]])
        own.args[1] = window
        attention.args[_MASK] = copies[attention.args[_MASK]]

    return apply


def _frequencies(base: int, change: Change) -> Fault:
    def apply(copy: ProgramCopy) -> None:
        own = _pairs(copy, base)
        (numbers,) = (found for _, found in copy.frequencies() if np.array_equal(found, own))
        change(numbers)

    return apply


def _pairs(copy: ProgramCopy, base: float) -> Any:
    head_dim = int(copy.manifest.model["layers"][0]["head_dim"])
    return inverse_frequencies(Rotary(base, 1.0, head_dim)).double().repeat_interleave(2)


def _rotary(base: int, factor: float) -> Fault:
    def apply(copy: ProgramCopy) -> None:
        _frequencies(base, lambda own: own.__setitem__(..., _pairs(copy, base * factor)))(copy)

    return apply


def _bfloat16(values: Any) -> None:
    halves = values.astype(np.float32).view(np.uint32)
    values[:] = (halves & np.uint32(0xFFFF0000)).view(np.float32)


def _rotation_of_global_layers(copy: ProgramCopy) -> None:
    """Layer 2 is a global one, layer 3 a local one: exchange what the delegate before is given."""
    local, other = copy.delegate_call(3), copy.delegate_call(2)
    local.args[10:12] = other.args[10:12]


def _no_rotation(copy: ProgramCopy) -> None:
    """Have one layer rotate by the angles of position 0 alone: cosines are 1, sines are 0."""
    call = copy.delegate_call(2)
    cosines, sines = call.args[10:12]
    start = next(c for c, _ in copy.frequencies() if _leads_to(copy, c, cosines))
    copies = copy.copied_chain(start, [cosines, sines])
    own = next(c for c in copy.calls("aten::mul") if c.args[-1] == copies[start.args[-1]])
    own.args[1] = copy.zeros_like(own.args[1])
    call.args[10:12] = [copies[cosines], copies[sines]]


def _leads_to(copy: ProgramCopy, start: Any, end: int) -> bool:
    reached: set[int] = set()
    for instruction in copy.plan.chains[0].instructions:
        call = instruction.instr_args
        if call is start or reached & set(call.args[:-1]):
            reached.add(call.args[-1])
    return end in reached


def _erf(*layers: int) -> Fault:
    """Write x · σ(...) as the delegate's own GELU, which is the erf form."""

    def apply(copy: ProgramCopy) -> None:
        for layer in layers or range(copy.layers):
            graph = copy.graphs[layer + 1]
            (sigmoid,) = nodes(graph, "XNNSigmoid")
            product = next(
                node
                for node in graph["xnodes"]
                if node["xnode_union"].get("input2_id") == sigmoid["output_id"]
            )
            settings = product["xnode_union"]
            product["xnode_union_type"] = "XNNGelu"
            product["xnode_union"] = {
                "input_id": settings["input1_id"],
                "output_id": settings["output_id"],
                "flags": 0,
            }

    return apply


def _scale(layer: int, factor: float) -> Fault:
    def apply(copy: ProgramCopy) -> None:
        call = copy.attention(layer)
        call.args[_SCALE] = copy.add_number(copy.number(call.args[_SCALE]) * factor)

    return apply


def _not_causal(copy: ProgramCopy) -> None:
    copy.attention(2).args[_CAUSAL] = copy.add_number(False)


def _slots(copy: ProgramCopy) -> None:
    """Write the rings as if they had a slot less, and look for keys where they should be."""
    written = copy.calls("aten::remainder")[0]
    written.args[1] = copy.add_number(copy.number(written.args[1]) - 1)


def _epsilon(copy: ProgramCopy) -> None:
    graph = copy.graphs[2]
    biased = [n for n in nodes(graph, "XNNFullyConnected") if n["bias_id"] < 2**32 - 1]
    copy.own_constant(graph, biased[1]["bias_id"], np.array([1e-5], np.float32))


def _norm(name: str, change: Change) -> Fault:
    return lambda copy: change(copy.norm(name))


def _norms_exchanged(copy: ProgramCopy) -> None:
    first, second = copy.norm("layers.1.mlp_norm"), copy.norm("layers.2.mlp_norm")
    first[:], second[:] = second.copy(), first.copy()


def _embedding_scale(copy: ProgramCopy) -> None:
    constants = [v for v in copy.delegate_call(0).args if copy.is_constant(v)]
    copy.constant(constants[0])[...] *= np.float32(1.004)


def _skip_residual(copy: ProgramCopy) -> None:
    last = nodes(copy.graphs[copy.layers], "XNNAdd")[-1]
    last["input1_id"] = last["input2_id"]


def _exchange_linear(first: str, second: str) -> Fault:
    """Exchange the weights of two linear layers of one delegate."""

    def apply(copy: ProgramCopy) -> None:
        (_, one, _), (_, other, _) = copy.linear(first), copy.linear(second)
        one["filter_id"], other["filter_id"] = other["filter_id"], one["filter_id"]

    return apply


def _twice(first: str, second: str) -> Fault:
    """Put a linear layer's weight in another layer's place, too."""

    def apply(copy: ProgramCopy) -> None:
        copy.codes(second)[:] = copy.codes(first)

    return apply


def _codes(name: str, change: Change) -> Fault:
    return lambda copy: change(copy.codes(name))


def _scales(name: str, change: Change) -> Fault:
    return lambda copy: copy.change_scales(name, change)


def _table(part: str, change: Change) -> Fault:
    return lambda copy: change(copy.table(part))


def _token_scale(copy: ProgramCopy) -> None:
    change = times((2000, 3), 2)
    change(copy.table("scales"))
    copy.change_scales("lm_head", change)


def _noise(copy: ProgramCopy) -> None:
    for seed, part in enumerate(("q_proj", "k_proj", "v_proj", "o_proj")):
        copy.change_scales(
            f"layers.{copy.layers - 1}.attention.{part}", noise(np.random.default_rng(seed), 0.03)
        )


def _metadata(method: str, number: int) -> Fault:
    """Change what the program tells stock runners."""

    def apply(copy: ProgramCopy) -> None:
        copy.method(method).values[-1].val.int_val = number

    return apply


_MLP, _Q = "layers.3.mlp", "layers.3.attention.q_proj"
CORRUPTIONS: tuple[Corruption[ProgramCopy], ...] = (
    Corruption("window one shorter in one layer", _window(0, -1)),
    Corruption("window one longer in one layer", _window(4, 1)),
    Corruption("window one shorter in every local layer", _windows(-1)),
    Corruption("window one longer in every local layer", _windows(1)),
    Corruption("rotary base of global layers × 1.01", _rotary(1_000_000, 1.01)),
    Corruption("rotary base of local layers × 1.01", _rotary(10_000, 1.01)),
    Corruption("rotary base of global layers × 1.1", _rotary(1_000_000, 1.1)),
    Corruption("one rotary frequency × 1.01", _frequencies(10_000, times(slice(20, 22), 1.01))),
    Corruption("rotary frequencies cut to bfloat16", _frequencies(1_000_000, _bfloat16)),
    Corruption("rotation of global layers in one local layer", _rotation_of_global_layers),
    Corruption("no rotation in one layer", _no_rotation),
    Corruption("erf form of GELU in every layer", _erf()),
    Corruption("erf form of GELU in one layer", _erf(3)),
    Corruption("attention scale × 1.01 in one layer", _scale(3, 1.01)),
    Corruption("attention scale × 1.001 in one layer", _scale(3, 1.001)),
    Corruption("later tokens of a chunk seen in one global layer", _not_causal),
    Corruption("rings written as if they had one slot less", _slots),
    Corruption(
        "epsilon of one norm 1e-5 for 1e-6",
        _epsilon,
        missed=BELOW_FLOAT_NOISE,
    ),
    Corruption("one weight of a norm × 1.05", _norm("layers.2.mlp_norm", times(5, 1.05))),
    Corruption("final norm × 1.002", _norm("norm", times(slice(None), 1.002))),
    Corruption("norms of two layers exchanged", _norms_exchanged),
    Corruption("embedding scale × 1.004, as bfloat16 may round", _embedding_scale),
    Corruption("last residual connection left out", _skip_residual),
    Corruption(
        "gate and up exchanged in one layer",
        _exchange_linear("layers.1.mlp.gate_proj", "layers.1.mlp.up_proj"),
    ),
    Corruption(
        "codes of one layer's up projection in the next as well",
        _twice("layers.1.mlp.up_proj", "layers.2.mlp.up_proj"),
    ),
    Corruption("one scale × 2 in a query projection", _scales(_Q, times((3, 1), 2))),
    Corruption("one scale × 2 in an MLP", _scales(f"{_MLP}.down_proj", times((9, 4), 2))),
    Corruption("one scale × 1.1 in an MLP", _scales(f"{_MLP}.down_proj", times((9, 4), 1.1))),
    Corruption("one scale × 2 of a token's row", _token_scale),
    Corruption("noise of 3 % on the scales of the last layer's attention", _noise),
    Corruption("highest bit of one code", _codes(f"{_MLP}.down_proj", flip((9, 67), 8))),
    Corruption("lowest bit of one code", _codes(f"{_MLP}.down_proj", flip((9, 67), 1))),
    Corruption("16 bytes of codes lost", _codes(f"{_MLP}.up_proj", times((50, slice(48, 64)), 0))),
    Corruption("one row of the head lost", _codes("lm_head", flip((777,), 0x77))),
    Corruption(
        "200 rows of the embedding exchanged",
        _table("codes", exchange(slice(3100, 3200), slice(3200, 3300))),
    ),
    Corruption(
        "one row of the embedding that no golden text feeds",
        _table("codes", flip((3001,), 0x77)),
        missed=NEVER_FED,
    ),
    Corruption("another stop token in the program", _metadata("get_eos_ids", 6)),
    Corruption("another chunk in the program", _metadata("get_max_seq_len", 33)),
    Corruption("another context length in the program", _metadata("get_max_context_len", 511)),
    *SETTINGS,
)
