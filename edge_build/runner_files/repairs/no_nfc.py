"""No NFC normalizer: ExecuTorch's drops combining marks instead of composing them.

With it every accent is lost and Korean is destroyed; without it text that is NFC already, which is
nearly all that is typed, is read as the host reads it. docs/in-an-app.md says to normalize first.
"""

import unicodedata
from typing import Any

from pocketlm.edge_build.runner_files.tokenizer_repair import Repair, Tokenizer


def _apply(files: Tokenizer) -> Tokenizer | None:
    normalizer = files.tokenizer.get("normalizer")
    left = _without_nfc(normalizer)
    if left == normalizer:
        return None
    return Tokenizer({**files.tokenizer, "normalizer": left}, files.config)


def _without_nfc(normalizer: Any) -> Any:
    if not isinstance(normalizer, dict):
        return normalizer
    if normalizer.get("type") == "NFC":
        return None
    if normalizer.get("type") != "Sequence":
        return normalizer
    steps = [_without_nfc(step) for step in normalizer["normalizers"]]
    steps = [step for step in steps if step is not None]
    return {**normalizer, "normalizers": steps} if steps else None


REPAIR = Repair(
    reason="the runner's NFC normalizer drops combining marks",
    apply=_apply,
    holds_for=lambda text: unicodedata.is_normalized("NFC", text),
)
