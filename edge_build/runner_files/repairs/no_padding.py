"""No padding and no truncation: what a training script left in the file never applies."""

from pocketlm.edge_build.runner_files.tokenizer_repair import Repair, Tokenizer


def _apply(files: Tokenizer) -> Tokenizer | None:
    if files.tokenizer.get("padding") is None and files.tokenizer.get("truncation") is None:
        return None
    return Tokenizer({**files.tokenizer, "padding": None, "truncation": None}, files.config)


REPAIR = Repair(
    reason="padding and truncation saved in training would change prompts",
    apply=_apply,
    holds_for=lambda text: True,
)
