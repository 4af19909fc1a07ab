"""Runs of spaces are merged, and no added tokens.

Gemma's files list its runs of U+2581, which stands for a space, among the added tokens although the
merges reach them. ExecuTorch's tokenizer never merges to an entry that is an added token, so
indented code falls into single spaces; onnxruntime-genai prints added tokens as they stand, with
U+2581. Without the list `tokenizers` finds them by merging, except in text that holds U+2581.
"""

from pocketlm.edge_build.runner_files.tokenizer_repair import Document, Repair, Tokenizer

_SPACE = "\u2581"


def _apply(files: Tokenizer) -> Tokenizer | None:
    vocabulary = files.tokenizer.get("model", {}).get("vocab")
    added = files.tokenizer.get("added_tokens") or []
    if not isinstance(vocabulary, dict):
        return None
    left_out = {entry["id"] for entry in added if _is_run_of_spaces(entry, vocabulary)}
    if not left_out:
        return None
    kept = [entry for entry in added if entry["id"] not in left_out]
    config = dict(files.config)
    if isinstance(config.get("added_tokens_decoder"), dict):
        config["added_tokens_decoder"] = {
            key: value
            for key, value in config["added_tokens_decoder"].items()
            if key not in {str(i) for i in left_out}
        }
    return Tokenizer({**files.tokenizer, "added_tokens": kept}, config)


def _is_run_of_spaces(entry: Document, vocabulary: Document) -> bool:
    text = str(entry["content"]).replace(" ", _SPACE)
    in_vocabulary = vocabulary.get(text) == entry["id"]
    return not entry["special"] and bool(text) and not text.strip(_SPACE) and in_vocabulary


REPAIR = Repair(
    reason="the runner cannot merge to a run of spaces that is an added token, or prints U+2581",
    apply=_apply,
    holds_for=lambda text: _SPACE not in text,
)
