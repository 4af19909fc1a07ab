"""What the digest of a part of the program covers."""

from pocketlm.edge_build.program_digest import imported_files, program_digest

LOWERING = "pocketlm.edge_build.backends.executorch.lowering"


def test_it_covers_everything_that_the_part_imports_also_in_functions() -> None:
    names = {"/".join(path.parts[-2:]) for path in imported_files(LOWERING)}
    assert {
        "executorch/lowering.py",
        "unroll/lowered_template.py",  # imported inside a function
        "executorch/attention.py",
        "models/decoder.py",
        "models/layers.py",
        "edge_build/kv_cache.py",
        "runtime_py/manifest.py",
    } <= names


def test_it_covers_several_parts_at_once() -> None:
    both = program_digest(LOWERING, "pocketlm.runtime_py.caches.ring")
    assert both not in (program_digest(LOWERING), program_digest("pocketlm.runtime_py.caches.ring"))
    assert both == program_digest("pocketlm.runtime_py.caches.ring", LOWERING)


def test_it_leaves_out_what_cannot_change_the_part() -> None:
    folders = {path.parent.name for path in imported_files(LOWERING)}
    assert folders.isdisjoint({"onnx", "lint", "runner_files", "commands"})
    assert program_digest(LOWERING) != program_digest()
