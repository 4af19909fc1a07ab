"""The one Decoder of every family: tokens → logits.

Parameters carry these names, which recipes, checkpoints and backends use:
`embed_tokens`, `layers.N.attention.{q,k,v,o}_proj`, `layers.N.mlp.{gate,up,down}_proj`,
`layers.N.*_norm`, `norm`, `lm_head`. A tied `lm_head` shares its tensor with `embed_tokens`.
"""

import torch
from torch import Tensor, nn

from pocketlm.models import families
from pocketlm.models.config import ModelConfig
from pocketlm.models.layers import AttentionStep, DecoderLayer, FullAttention, RMSNorm


class Decoder(nn.Module):
    """A decoder-only language model built from numbers alone, weights uninitialized."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        make_layer = families.own_layer(config.model_type) or DecoderLayer
        self.layers = nn.ModuleList(make_layer(config, i) for i in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    def forward(self, tokens: Tensor, step: AttentionStep | None = None) -> Tensor:
        """Return the logits of every token.

        Args:
            tokens: [B, T] int64.
            step: where keys and values of earlier tokens come from; None sees `tokens` alone.

        Returns:
            [B, T, V].
        """
        return self.logits(self.hidden(tokens, step))

    def forward_last(self, tokens: Tensor, step: AttentionStep, rows: int = 1) -> Tensor:
        """Return logits after each of at most `rows` tokens, or after the last of more.

        Returns:
            [B, R, V], R as `last_rows` says.
        """
        return self.logits(last_rows(self.hidden(tokens, step), rows))

    def hidden(self, tokens: Tensor, step: AttentionStep | None = None) -> Tensor:
        """Return the residual stream after the last layer, [B, T, E]."""
        step = step or FullAttention(self.config, tokens.shape[1])
        x = self.embed_tokens(tokens) * self.config.embedding_scale
        for layer in self.layers:
            x = layer(x, step)
        return x

    def logits(self, x: Tensor) -> Tensor:
        """Return logits [B, T, V] of the residual stream [B, T, E]."""
        logits = self.lm_head(self.norm(x))
        if self.config.logits_softcap is not None:
            cap = self.config.logits_softcap
            logits = cap * torch.tanh(logits / cap)
        return logits


def last_rows(x: Tensor, rows: int) -> Tensor:
    """Return x [B, T, E] whole if T is at most `rows`; else its last two rows, or the last of one.

    Compilers trace it with T open. They plan memory for the most that a size may be, and take no
    size that may be one: so the number of rows is between 2 and `rows` for every T above 1, and
    says so.
    """
    if rows == 1:
        return x[:, -1:]
    tokens = x.shape[1]
    # Falls from `rows` to below 2 as soon as there are more tokens than that.
    few = torch.sym_max(2, rows + rows * (rows - tokens))
    kept = torch.sym_min(torch.sym_min(tokens, rows), few)
    return x.index_select(1, torch.arange(0, kept, 1, device=x.device) + (tokens - kept))
