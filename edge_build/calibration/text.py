"""The tokens that a model is calibrated on."""

from pocketlm.edge_build.golden_texts import LONG_TEXT, TOKENIZER_TEXTS
from pocketlm.edge_build.preparation import Preparation
from pocketlm.edge_build.prompts import open_tokenizer

CALIBRATION_TOKENS = 512


def calibration_ids(prepared: Preparation) -> list[int]:
    """Return a chat, if the model has any, then prose, code and other scripts."""
    tokenizer = open_tokenizer(prepared.text)
    text = "\n".join((LONG_TEXT, *TOKENIZER_TEXTS))
    chats = prepared.text.chats
    if chats:
        ids = [*chats[0].ids, *tokenizer.encode(text)]
    else:
        ids = tokenizer.encode_prompt(text)
    return ids[: min(CALIBRATION_TOKENS, prepared.caches.context_length)]
