"""What is traced: `forward(tokens, input_pos) → logits`, and its rewrite before lowering."""

import warnings

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule, Node
from torch.fx.passes.infra.pass_base import PassResult

from pocketlm.edge_build.backend import LoweringInput
from pocketlm.edge_build.backends.executorch.attention import CachedAttention
from pocketlm.edge_build.backends.executorch.parts import replace_parts
from pocketlm.models.decoder import Decoder, last_rows

# Padding columns of the logits: no sampler can choose them, and no softmax overflows on them.
NEVER_CHOSEN = -1e9


class StepProgram(nn.Module):
    """The logits after the last of S new tokens, or each of a few, with the caches as state."""

    def __init__(self, source: LoweringInput) -> None:
        super().__init__()
        with torch.device("meta"):
            self.decoder = Decoder(source.config)
        replace_parts(self.decoder, source.weights)
        self.caches = CachedAttention(source.config, source.caches)
        self.padding = logits_size(source) - source.config.vocab_size
        self.logits_rows = source.caches.logits_rows

    def forward(self, tokens: Tensor, input_pos: Tensor) -> Tensor:
        """tokens [1, S] and input_pos [1], both int64 → [1, rows, logits_size]."""
        step = self.caches.step(tokens.shape[1], input_pos)
        hidden = last_rows(self.decoder.hidden(tokens, step), self.logits_rows)
        # Without the batch: an open size beside it would have to be proven not to be one.
        logits = self.decoder.logits(hidden[0])
        if self.padding:
            logits = torch.constant_pad_nd(logits, (0, self.padding), NEVER_CHOSEN)
        # A view costs nothing; to unsqueeze would copy.
        return logits.view(1, *logits.shape)


def logits_size(source: LoweringInput) -> int:
    """Return the width of the logits: stock samplers read one for every id of the tokenizer."""
    return max(source.config.vocab_size, source.tokenizer_size)


def trace(source: LoweringInput) -> ExportedProgram:
    """Export the program with S from 1 to the chunk, the longest write that a runner makes."""
    chunk = source.caches.chunk
    program = StepProgram(source).eval().requires_grad_(False)
    # A dynamic size of 1 would be taken for a constant.
    tokens = torch.zeros(1, min(2, chunk), dtype=torch.int64)
    sizes = {1: Dim("new_tokens", min=1, max=chunk)} if chunk > 1 else None
    shapes = {"tokens": sizes, "input_pos": None}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(
            program, (tokens, torch.zeros(1, dtype=torch.int64)), dynamic_shapes=shapes
        )


def simplify_views(graph_module: GraphModule) -> PassResult:
    """Make views such that XNNPACK takes them.

    The one symbolic size of a view is written as -1, the only dynamic size that it knows. Copies
    between a permutation and a view go: both already make contiguous tensors.
    """
    for node in list(graph_module.graph.nodes):
        if node.op != "call_function":
            continue
        if "view_copy" in str(node.target):
            sizes = list(node.args[1])
            symbolic = [i for i, size in enumerate(sizes) if not isinstance(size, int)]
            if len(symbolic) == 1 and -1 not in sizes:
                sizes[symbolic[0]] = -1
                node.update_arg(1, sizes)
        elif "_clone_dim_order" in str(node.target) and _is_contiguous(node.args[0]):
            node.replace_all_uses_with(node.args[0])
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()
    return PassResult(graph_module, True)


def _is_contiguous(node: Node) -> bool:
    value = node.meta["val"]
    return list(value.dim_order()) == list(range(value.dim()))
