"""Faults of a bundle's settings and texts, the same for every backend."""

from dataclasses import replace
from typing import Any

from tests.corruptions.bundle_copy import BundleCopy, Corruption


def _first_cache(copy: BundleCopy, **changes: Any) -> None:
    copy.change_entry(
        lambda entry: replace(
            entry, caches=(replace(entry.caches[0], **changes), *entry.caches[1:])
        )
    )


def _template(copy: BundleCopy) -> None:
    name = "chat_template.jinja"
    text = (copy.folder / name).read_text()
    copy.write(name, text + "{% if messages | length > 4 %} {% endif %}")


SETTINGS: tuple[Corruption[BundleCopy], ...] = (
    Corruption("no BOS", lambda copy: copy.changes.update(bos_id=None)),
    Corruption("another window in the manifest", lambda copy: _first_cache(copy, window=65)),
    Corruption(
        "another depth of rewinding",
        lambda copy: copy.change_entry(lambda entry: replace(entry, rewind_tokens=None)),
    ),
    Corruption(
        "another sampling default",
        lambda copy: copy.change_document(
            "generation_config.json", lambda document: document.update(temperature=0.3)
        ),
    ),
    Corruption("a template that differs from the fifth message on", _template),
)
