"""The figures of an evaluation in words, for the terminal and the page."""

from pocketlm.edge_build.byte_sizes import shown_size
from pocketlm.evaluation.result import EvalResult


def figure_rows(result: EvalResult) -> list[tuple[str, str]]:
    """Return what was measured and its figure, a row each."""
    bits_per_byte = result.bits_per_byte
    rows = [
        ("tokens", f"{result.tokens:,} in {result.passages:,} passages"),
        ("perplexity", f"{result.perplexity:.4g}"),
        ("nats per token", f"{result.nats_per_token:.4f}"),
        ("bits per byte", "-" if bits_per_byte is None else f"{bits_per_byte:.4f}"),
        ("bits per weight", f"{result.bits_per_weight:.3f}"),
        ("artifact", shown_size(result.artifact_bytes)),
    ]
    kl = result.kl_nats
    if kl is not None:
        assert result.top1_agreement is not None and result.top5_agreement is not None
        rows += [
            ("KL divergence, mean", f"{kl.mean:.4f} nats"),
            ("median, 90 %, 99 %", f"{kl.median:.4f}, {kl.p90:.4f}, {kl.p99:.4f} nats"),
            ("largest", f"{kl.max:.3f} nats"),
            ("same top token", f"{100 * result.top1_agreement:.1f} %"),
            ("same top 5 tokens", f"{100 * result.top5_agreement:.1f} %"),
        ]
    return rows
