"""Published tokenizer files → every backend's, in a process of its own.

A tokenizer of a quarter of a million entries takes hundreds of megabytes as objects, which the
build does not keep, and seconds to load, so it is loaded once.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tokenizers

from pocketlm.edge_build.runner_files import repairs
from pocketlm.edge_build.runner_files.tokenizer_repair import Document, Repair, Tokenizer
from pocketlm.runtime_py.lint.comparison import edge_case_questions
from pocketlm.runtime_py.lint.edge_cases import edge_case_texts
from pocketlm.runtime_py.lint.own_process import limit_processor_time
from pocketlm.runtime_py.lint.readers.pocketlm import answers_with
from pocketlm.runtime_py.tokenizer_library import LibraryTokenizer

TOKENIZER, CONFIG = "tokenizer.json", "tokenizer_config.json"
_NO_MODEL = {"type": "BPE", "vocab": {}, "merges": []}


@dataclass(frozen=True)
class RunnerFiles:
    """What one backend's folder gets.

    Attributes:
        config: complete tokenizer_config.json.
        repairs: names of those that may be applied.
    """

    folder: Path
    config: Mapping[str, Any]
    repairs: Sequence[str]


def write_repaired(published: Path, wanted: Sequence[RunnerFiles]) -> tokenizers.Tokenizer:
    """Write tokenizer.json and tokenizer_config.json into each folder; return the published one."""
    files = _Published(published)
    texts: dict[tuple[str, ...], str] = {}
    for one in wanted:
        original = Tokenizer(files.document, dict(one.config))
        chosen = files.proven(original, one.repairs)
        repaired = _repaired(original, chosen)
        if chosen not in texts:
            # Without the indentation, which is a third of a large file.
            texts[chosen] = json.dumps(
                repaired.tokenizer, ensure_ascii=False, separators=(",", ":")
            )
        (one.folder / TOKENIZER).write_text(texts[chosen], encoding="utf-8")
        config = json.dumps(repaired.config, ensure_ascii=False, indent=1)
        (one.folder / CONFIG).write_text(config + "\n", encoding="utf-8")
    return files.tokenizer


class _Published:
    """The published tokenizer, parsed and loaded once, and what it reads edge-case texts as."""

    def __init__(self, path: Path) -> None:
        self.document: Document = json.loads(path.read_bytes())
        self.tokenizer = tokenizers.Tokenizer.from_file(str(path))
        self.texts = [text.text for text in edge_case_texts()]
        self.ids = _ids(self.tokenizer, self.texts)
        self._proofs: dict[tuple[str, ...], bool] = {}

    def proven(self, original: Tokenizer, names: Sequence[str]) -> tuple[str, ...]:
        """Return the repairs to apply: all together, else the first by itself, that change no id
        of the texts that they hold for."""
        chosen = tuple(name for name in names if repairs.load(name).apply(original) is not None)
        alone = [(name,) for name in chosen if len(chosen) > 1]
        for tried in ([chosen] if chosen else []) + alone:
            if tried not in self._proofs:
                self._proofs[tried] = self._gives_equal_ids(original, tried)
            if self._proofs[tried]:
                return tried
        return ()

    def _gives_equal_ids(self, original: Tokenizer, names: Sequence[str]) -> bool:
        repaired = _ids(self._loaded(_repaired(original, names).tokenizer), self.texts)
        chosen = [repairs.load(name) for name in names]
        asked = zip(self.texts, self.ids, repaired, strict=True)
        return all(ids == found for text, ids, found in asked if _all_hold(chosen, text))

    def _loaded(self, document: Document) -> tokenizers.Tokenizer:
        """Return a tokenizer of a repaired document; an unchanged model is not loaded again."""
        if document["model"] is not self.document["model"]:
            return tokenizers.Tokenizer.from_str(json.dumps(document))
        around = {**document, "model": _NO_MODEL, "added_tokens": []}
        loaded = tokenizers.Tokenizer.from_str(json.dumps(around))
        loaded.model = self.tokenizer.model
        loaded.add_tokens([*_added_tokens(document)])
        return loaded


def _added_tokens(document: Document) -> Iterator[tokenizers.AddedToken]:
    for entry in document.get("added_tokens") or ():
        flags = {key: value for key, value in entry.items() if key not in ("id", "content")}
        yield tokenizers.AddedToken(entry["content"], **flags)


def _repaired(original: Tokenizer, names: Sequence[str]) -> Tokenizer:
    files = original
    for name in names:
        files = repairs.load(name).apply(files) or files
    return files


def _all_hold(chosen: Sequence[Repair], text: str) -> bool:
    return all(repair.holds_for(text) for repair in chosen)


def _ids(tokenizer: tokenizers.Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    # As the host reads every file.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return [list(one.ids) for one in encoded]


def main(request: str, answered: str) -> None:
    """Do what a request file says, and write our host's answers to the questions of lint."""
    asked = json.loads(Path(request).read_bytes())
    wanted = [RunnerFiles(Path(one.pop("folder")), **one) for one in asked["wanted"]]
    published = Path(asked["published"])
    loaded = write_repaired(published, wanted)
    answers = answers_with(LibraryTokenizer(loaded), published.parent, edge_case_questions())
    Path(answered).write_text(json.dumps(asdict(answers)))


if __name__ == "__main__":
    limit_processor_time()
    main(*sys.argv[1:])
