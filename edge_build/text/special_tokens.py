"""The names by which templates call tokens, such as bos_token, as transformers finds them.

Source: transformers 5.23, PreTrainedTokenizerBase._from_pretrained, and the defaults of the two
tokenizer classes of our families.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.text.checkpoint_files import short

NAMES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
_CONFIG, _MAP = "tokenizer_config.json", "special_tokens_map.json"
# transformers' classes, and what they call their tokens where no file does.
_CLASSES = {
    "gemma2": "GemmaTokenizer",
    "gemma3": "GemmaTokenizer",
    "gemma3_text": "GemmaTokenizer",
    "qwen3": "Qwen2Tokenizer",
}
_CLASS_DEFAULTS: Mapping[str, Mapping[str, str | None]] = {
    "GemmaTokenizer": {
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    },
    "Qwen2Tokenizer": {
        "bos_token": None,
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    },
}


@dataclass(frozen=True)
class SpecialTokens:
    """The tokens that the files name.

    Attributes:
        stated: name → text, or None where a file says that there is no such token.
        defaults: likewise, of the tokenizer's class; for names that no file has.
        extra: special tokens without a name.
    """

    stated: Mapping[str, str | None]
    defaults: Mapping[str, str | None]
    extra: tuple[str, ...]
    notes: tuple[str, ...]


def read_special_tokens(
    tokenizer_config: Mapping[str, Any],
    tokens_map: Mapping[str, Any],
    model_type: str,
    config: Mapping[str, Any],
) -> SpecialTokens:
    """Read tokenizer_config.json and special_tokens_map.json.

    Args:
        model_type: says the tokenizer's class where no file does.
        config: content of config.json.

    Raises:
        BuildError: a name stands for something else than a text.
    """
    # As in transformers: the map is older, and counts only where the config lists no tokens.
    counts = tokens_map if "added_tokens_decoder" not in tokenizer_config else {}
    stated = {**_named(tokenizer_config, _CONFIG), **_named(counts, _MAP)}
    notes = tuple(
        f"{_MAP} says that {name} is {stated[name]}, {_CONFIG} says {text}: the first counts, as "
        "in transformers"
        for name, text in _named(tokenizer_config, _CONFIG).items()
        if stated[name] != text
    )
    classes = (tokenizer_config.get("tokenizer_class"), config.get("tokenizer_class"))
    found = next(filter(None, classes), _CLASSES.get(model_type))
    defaults = _CLASS_DEFAULTS.get(str(found).removesuffix("Fast"), {})
    extra = _extra(tokenizer_config, _CONFIG) or _extra(counts, _MAP)
    return SpecialTokens(stated, defaults, extra, notes)


def token_text(value: object) -> str | None:
    """Return the text of a token that is written as a text or as an object; else None."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _named(document: Mapping[str, Any], file: str) -> dict[str, str | None]:
    entries = [(key, value) for key, value in document.items() if key.endswith("_token")]
    extra = document.get("extra_special_tokens")
    if isinstance(extra, dict):
        entries += extra.items()
    named = {}
    for name, value in entries:
        text = token_text(value)
        if text is None and value is not None:
            if name in NAMES:
                raise BuildError(
                    f"{file}: {name} is {short(value)}; must be the token's text, or null"
                )
            continue  # add_bos_token and the like
        if text is not None or name in NAMES:
            named[name] = text
    return named


def _extra(document: Mapping[str, Any], file: str) -> tuple[str, ...]:
    key = "extra_special_tokens"
    value = document.get(key)
    if not value:
        key = "additional_special_tokens"
        value = document.get(key)
    if value is None or isinstance(value, dict):
        return ()
    texts = [token_text(item) for item in value] if isinstance(value, list) else [None]
    if None in texts:
        raise BuildError(f"{file}: {key} is {short(value)}; must be a list of the tokens' texts")
    return tuple(text for text in texts if text is not None)
