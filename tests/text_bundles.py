"""The text files of a bundle without its artifacts: what tokenizers and templates read."""

import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from pocketlm.edge_build import backends
from pocketlm.edge_build.runner_files.writing import write_runner_files
from pocketlm.runtime_py.chat_template import special_tokens

_BACKENDS = tuple(backends.load(name) for name in backends.names())


@cache
def text_bundle(published: Path) -> Path:
    """Return a folder with a tokenizer's published files and its runner files."""
    bundle = Path(mkdtemp(prefix="text-bundle-"))
    for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model"):
        if (published / name).exists():
            shutil.copyfile(published / name, bundle / name)
    config = json.loads((bundle / "tokenizer_config.json").read_bytes())
    template = config.get("chat_template")
    if (published / "chat_template.jinja").exists():
        template = (published / "chat_template.jinja").read_text()
    if template is not None:
        (bundle / "chat_template.jinja").write_text(template)
    write_runner_files(bundle, _BACKENDS, template, special_tokens(config), [1])
    return bundle
