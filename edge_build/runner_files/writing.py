"""The runner files of each backend, written into a bundle."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pocketlm.edge_build.backend import Backend
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.runner_files.repairing import CONFIG, TOKENIZER, RunnerFiles
from pocketlm.edge_build.runner_files.template_writing import runner_template
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.lint.own_process import run_module
from pocketlm.runtime_py.lint.reader import ReaderOutput

_CLASS = "tokenizer_class"


def write_runner_files(
    bundle: Path,
    backends: Sequence[Backend],
    template: str | None,
    special_tokens: Mapping[str, str],
    stop_ids: Sequence[int],
) -> ReaderOutput:
    """Write `BACKEND/tokenizer.json` and `BACKEND/tokenizer_config.json`.

    Returns:
        What our host makes of the edge-case texts and chats with the published files.

    Args:
        bundle: where the published files lie already.
        template: the chosen chat template; None if there is none.

    Raises:
        BuildError: the tokenizer cannot be written or read back.
    """
    wanted = []
    for backend in backends:
        folder = bundle / backend.name
        folder.mkdir(exist_ok=True)
        rewritten = template
        if template is not None:
            rewritten = runner_template(template, special_tokens, backend.template_repairs)
        config = complete_config(bundle, rewritten, special_tokens, stop_ids)
        wanted.append(RunnerFiles(folder.absolute(), config, backend.tokenizer_repairs))
    return _write(bundle / TOKENIZER, wanted)


def complete_config(
    bundle: Path,
    template: str | None,
    special_tokens: Mapping[str, str],
    stop_ids: Sequence[int],
) -> dict[str, Any]:
    """Return a tokenizer_config.json that lacks nothing that a stock runner asks for.

    onnxruntime-genai renders nothing without `tokenizer_class`, opens no list of templates, and
    looks for `bos_token` and `eos_token` as texts.
    """
    published = _read(bundle / CONFIG)
    config = {**published, **special_tokens}
    config.setdefault("bos_token", None)
    if not isinstance(config.get("eos_token"), str):
        config["eos_token"] = _text_of(bundle / TOKENIZER, stop_ids[0])
    if not isinstance(config.get(_CLASS), str):
        config[_CLASS] = _class_of(bundle / TOKENIZER)
    config.pop("chat_template", None)
    if template is not None:
        config["chat_template"] = template
    return config


def _write(published: Path, wanted: Sequence[RunnerFiles]) -> ReaderOutput:
    request = {
        "published": str(published.absolute()),
        "wanted": [{**vars(one), "folder": str(one.folder)} for one in wanted],
    }
    with tempfile.TemporaryDirectory() as temporary:
        asked, answered = Path(temporary) / "request.json", Path(temporary) / "answers.json"
        asked.write_text(json.dumps(request))
        try:
            what = f"{published}: tokenizer files for stock runners"
            run_module("pocketlm.edge_build.runner_files.repairing", (asked, answered), what)
        except RunError as error:
            raise BuildError(f"{error}; free some memory or disk, and run it again") from error
        return ReaderOutput(**json.loads(answered.read_bytes()))


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    document = json.loads(path.read_bytes())
    return document if isinstance(document, dict) else {}


def _text_of(tokenizer: Path, token_id: int) -> str | None:
    document = json.loads(tokenizer.read_bytes())
    for entry in document.get("added_tokens") or ():
        if entry["id"] == token_id:
            return str(entry["content"])
    vocabulary = document.get("model", {}).get("vocab") or {}
    return next((text for text, found in _entries(vocabulary) if found == token_id), None)


def _entries(vocabulary: Any) -> list[tuple[str, int]]:
    if isinstance(vocabulary, dict):
        return [*vocabulary.items()]
    return [(entry[0], i) for i, entry in enumerate(vocabulary)]


def _class_of(tokenizer: Path) -> str:
    """Return a class that stock runners know for tokenizers of this kind."""
    document = json.loads(tokenizer.read_bytes())
    is_byte_level = '"ByteLevel"' in json.dumps(document.get("decoder"))
    return "Qwen2Tokenizer" if is_byte_level else "GemmaTokenizer"
