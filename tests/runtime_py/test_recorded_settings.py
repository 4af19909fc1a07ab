"""What a bundle says besides logits is held against what was recorded when it was built."""

import json
from dataclasses import replace
from typing import Any

import pytest

from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.manifest import CacheEntry, Manifest
from pocketlm.runtime_py.recorded_settings import SETTINGS, RecordedSettings, differences
from pocketlm.runtime_py.verification import verify


def places(fake_bundle: Any) -> list[tuple[str, str, str]]:
    result = verify(fake_bundle.open(), "onnx")
    assert {mismatch.check for mismatch in result.mismatches} == {"settings"}
    return [(m.case, m.expected, m.found) for m in result.mismatches]


def test_another_bos_id_is_named(fake_bundle: Any) -> None:
    fake_bundle.write_manifest_alone(bos_id=None)
    assert places(fake_bundle) == [("bos_id", "2", "nothing")]


def test_other_caches_and_another_depth_of_rewinding_are_named(fake_bundle: Any) -> None:
    manifest = fake_bundle.manifest()
    entry = manifest.backends["onnx"]
    caches = (replace(entry.caches[0], window=7), CacheEntry("windowed", 11, 8, 1, 4))
    changed = replace(entry, caches=(*caches, entry.caches[2]), rewind_tokens=5)
    fake_bundle.write_manifest_alone(backends={**manifest.backends, "onnx": changed})
    assert places(fake_bundle) == [
        ("backends.onnx.caches[0].window", "8", "7"),
        ("backends.onnx.caches[1].kind", '"ring"', '"windowed"'),
        ("backends.onnx.rewind_tokens", "4", "5"),
    ]


@pytest.mark.parametrize("name", ["generation_config.json", "genai_config.json"])
def test_other_sampling_defaults_and_runner_files_are_named(fake_bundle: Any, name: str) -> None:
    fake_bundle.write(name, json.dumps({"temperature": 0.7}))
    assert verify(fake_bundle.open(), "onnx").passed
    (fake_bundle.folder / name).write_text(json.dumps({"temperature": 0.8}))
    fake_bundle.write_manifest_alone()
    assert [place for place, *_ in places(fake_bundle)] == [name]
    (fake_bundle.folder / name).unlink()
    fake_bundle.write_manifest_alone()
    assert [found for *_, found in places(fake_bundle)] == ["nothing"]


def test_what_a_later_version_says_besides_does_not_count(fake_bundle: Any) -> None:
    recorded = RecordedSettings.of(fake_bundle.manifest())
    older = {name: value for name, value in recorded.manifest.items() if name != "recipe"}
    fake_bundle.write_manifest()
    (fake_bundle.folder / SETTINGS).write_text(replace(recorded, manifest=older).to_json())
    fake_bundle.write_manifest_alone()
    assert verify(fake_bundle.open(), "onnx").passed


def test_a_reader_that_knows_no_rules_of_a_recipe_misses_nothing(fake_bundle: Any) -> None:
    manifest: Manifest = fake_bundle.manifest()
    older = replace(manifest, recipe_rules=())
    recorded = RecordedSettings.of(manifest)
    assert "recipe_rules" not in recorded.manifest
    assert list(differences(recorded, RecordedSettings.of(older))) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 3}, "format version 3, this pocketlm reads 2; update pocketlm"),
        ({"texts": []}, "texts: expected an object"),
    ],
)
def test_a_record_that_cannot_be_read_is_named(
    fake_bundle: Any, change: dict[str, Any], message: str
) -> None:
    document = json.loads(RecordedSettings.of(fake_bundle.manifest()).to_json())
    (fake_bundle.folder / SETTINGS).write_text(json.dumps({**document, **change}))
    fake_bundle.write_manifest_alone()
    with pytest.raises(RunError, match=message):
        verify(fake_bundle.open(), "onnx")
