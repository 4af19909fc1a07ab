"""The digest of everything that determines what a build makes: equal keys, equal stages."""

import hashlib
import json
from dataclasses import asdict, fields

from pocketlm.edge_build.installation import tool_versions
from pocketlm.edge_build.preparation import Preparation
from pocketlm.edge_build.program_digest import program_digest
from pocketlm.edge_build.text_files import COPIED, TextFiles


def build_key(prepared: Preparation, checkpoint_sha256: str) -> str:
    """Return the key of a checked build.

    Not in it: where the bundle goes, how much memory is allowed, and how many threads compute,
    which moves the last bits of golden answers within what `verify` allows anyway.
    """
    spec = prepared.spec
    determining = {
        "checkpoint": checkpoint_sha256,
        "text": _text_determining(prepared.text),
        "rules": {name: asdict(rule) for name, rule in prepared.rules.items()},
        "context_length": prepared.caches.context_length,
        "chunk": prepared.caches.chunk,
        "logits_rows": prepared.caches.logits_rows,
        "kv": spec.kv,
        "backends": {b.name: prepared.options_of(b) for b in prepared.backends},
        "golden_tokens": spec.golden_tokens,
        "calibration": prepared.calibration,
        "tools": tool_versions(),
        "program": program_digest(),
    }
    return hashlib.sha256(json.dumps(determining, sort_keys=True).encode()).hexdigest()


def _text_determining(text: TextFiles) -> dict[str, object]:
    """Return all that was read of the text files, whichever files it came from."""
    values = {f.name: getattr(text, f.name) for f in fields(text) if f.name != "files"}
    contents = text.files.contents
    digests = {n: hashlib.sha256(contents[n]).hexdigest() for n in COPIED if n in contents}
    return {"values": repr(values), "files": digests}
