"""What a build says of text is the same whenever it is built."""

import json
from pathlib import Path

import pytest

from pocketlm.edge_build.runner_files.writing import write_runner_files
from pocketlm.runtime_py.bundle import read_bundle
from pocketlm.runtime_py.lint.comparison import read_alike
from tests.staged_build import StagedBuild

pytest.importorskip("pytorch_tokenizers")
pytest.importorskip("onnxruntime_genai")

# Microseconds: two renderings by the clock are never equal.
CLOCK = "{{ strftime_now('%d %b %Y %H:%M:%S.%f') }}"


def test_builds_at_two_moments_are_equal_with_a_template_that_reads_the_clock(
    staged_build: StagedBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketlm.edge_build.bundling.write_runner_files", write_runner_files)
    monkeypatch.setattr("pocketlm.edge_build.bundling.read_alike", read_alike)
    template = staged_build.spec.checkpoint / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8") + CLOCK, encoding="utf-8")
    built = []
    for name in ("first", "second"):
        staged_build.build(out=staged_build.out.with_name(name), name="tiny")
        built.append(staged_build.out.with_name(name))
    first, second = (_files(folder) for folder in built)
    assert first == second
    readings = json.loads(first["manifest.json"])["readings"]
    assert set(readings) >= {"executorch", "genai"}
    assert all(reading["texts"] for reading in readings.values())


def test_a_checkpoint_of_a_hub_is_recorded_with_its_commit(staged_build: StagedBuild) -> None:
    cached = staged_build.out.parents[1] / "models--org--tiny-1b" / "snapshots" / "dcc83ea841ab"
    cached.parent.mkdir(parents=True)
    staged_build.spec.checkpoint.rename(cached)
    staged_build.build(checkpoint=cached)
    manifest = read_bundle(staged_build.out).manifest
    assert manifest.name == "tiny-1b"
    recorded = manifest.build["hub_id"], manifest.build["hub_revision"]
    assert recorded == ("org/tiny-1b", "dcc83ea841ab")


def _files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
