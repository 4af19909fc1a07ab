"""Published tokenizer files → one backend's, in a process of its own. Knows no bundle.

A tokenizer of a quarter of a million entries takes hundreds of megabytes as objects; the build does
not keep them.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from edge_build.runner_files import repairs
from edge_build.runner_files.tokenizer_repair import Repair, Tokenizer
from runtime_py.lint.hard_texts import hard_texts

TOKENIZER, CONFIG = "tokenizer.json", "tokenizer_config.json"


def write_repaired(
    published: Path, config: Mapping[str, Any], names: Sequence[str], out: Path
) -> None:
    """Write tokenizer.json and tokenizer_config.json to a folder.

    Args:
        published: tokenizer.json as it is.
        config: complete tokenizer_config.json.
        names: of the repairs that may be applied.
    """
    document = json.loads(published.read_bytes())
    original = Tokenizer(document, dict(config))
    chosen = _applied(original, names)
    # All together first: to load a large vocabulary takes seconds.
    for tried in ([chosen] if chosen else []) + [[name] for name in chosen if len(chosen) > 1]:
        _write(_repaired(original, tried), out)
        if _gives_equal_ids(published, out / TOKENIZER, tried):
            return
    _write(original, out)


def _applied(original: Tokenizer, names: Sequence[str]) -> list[str]:
    return [name for name in names if repairs.load(name).apply(original) is not None]


def _repaired(original: Tokenizer, names: Sequence[str]) -> Tokenizer:
    files = original
    for name in names:
        files = repairs.load(name).apply(files) or files
    return files


def _write(files: Tokenizer, out: Path) -> None:
    # Without the indentation, which is a third of a large file.
    text = json.dumps(files.tokenizer, ensure_ascii=False, separators=(",", ":"))
    (out / TOKENIZER).write_text(text, encoding="utf-8")
    config = json.dumps(files.config, ensure_ascii=False, indent=1)
    (out / CONFIG).write_text(config + "\n", encoding="utf-8")


def _gives_equal_ids(published: Path, repaired: Path, names: Sequence[str]) -> bool:
    """Say whether the `tokenizers` library reads every hard text alike from both files."""
    holds = _all_hold([repairs.load(name) for name in names])
    texts = [text.text for text in hard_texts() if holds(text.text)]
    return _ids(published, texts) == _ids(repaired, texts)


def _all_hold(chosen: Sequence[Repair]) -> Callable[[str], bool]:
    return lambda text: all(repair.holds_for(text) for repair in chosen)


def _ids(path: Path, texts: Sequence[str]) -> list[list[int]]:
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    # As the host reads every file.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return [list(one.ids) for one in encoded]


def main(request: str) -> None:
    """Do what a request file says."""
    asked = json.loads(Path(request).read_bytes())
    published, out = Path(asked["published"]), Path(asked["out"])
    write_repaired(published, asked["config"], asked["repairs"], out)


if __name__ == "__main__":
    main(sys.argv[1])
