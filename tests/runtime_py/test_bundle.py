from pathlib import Path
from typing import Any

import pytest

from pocketlm.runtime_py.bundle import open_bundle, read_bundle
from pocketlm.runtime_py.errors import RunError


def error_of(folder: Path | str, **options: Any) -> str:
    with pytest.raises(RunError) as caught:
        open_bundle(folder, **options)
    return str(caught.value)


def tamper(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def test_a_whole_bundle_opens(fake_bundle: Any) -> None:
    bundle = open_bundle(str(fake_bundle.folder))
    assert bundle.manifest == fake_bundle.manifest()
    assert bundle.path("onnx/model.bin").read_text() == "onnx weights"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path / 'no'}: there is no such folder" in error_of(tmp_path / "no")


def test_a_file_instead_of_a_folder_is_refused(fake_bundle: Any) -> None:
    assert "is a file; give the folder" in error_of(fake_bundle.folder / "manifest.json")


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    assert "is no bundle: it has no manifest.json" in error_of(tmp_path)


def test_a_checkpoint_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert "looks like a checkpoint: build it first" in error_of(tmp_path)


def test_a_manifest_that_is_not_text_is_refused(fake_bundle: Any) -> None:
    (fake_bundle.folder / "manifest.json").write_bytes(b"\xff\xfe")
    assert "manifest.json cannot be read" in error_of(fake_bundle.folder)


def test_a_changed_file_is_named_with_both_hashes(fake_bundle: Any) -> None:
    path = fake_bundle.folder / "onnx/model.bin"
    expected = {entry.path: entry.sha256 for entry in fake_bundle.files()}
    tamper(path)
    found = {entry.path: entry.sha256 for entry in fake_bundle.files()}
    message = error_of(fake_bundle.folder)
    assert f"{path} was changed after the build" in message
    assert expected["onnx/model.bin"] in message
    assert found["onnx/model.bin"] in message
    assert "copy the bundle again" in message


def test_without_hashes_only_sizes_are_compared(fake_bundle: Any) -> None:
    tamper(fake_bundle.folder / "onnx/model.bin")
    open_bundle(fake_bundle.folder, check_hashes=False)
    (fake_bundle.folder / "onnx/model.bin").write_text("longer than it was built")
    message = error_of(fake_bundle.folder, check_hashes=False)
    assert "model.bin has 24 bytes, the manifest says 12" in message


def test_a_missing_file_is_named(fake_bundle: Any) -> None:
    (fake_bundle.folder / "tokenizer.json").unlink()
    assert "tokenizer.json is missing; copy the bundle again" in error_of(fake_bundle.folder)


def test_a_file_that_the_manifest_does_not_list_is_not_read(fake_bundle: Any) -> None:
    fake_bundle.remove("tokenizer.json")
    (fake_bundle.folder / "tokenizer.json").write_text("{}")
    with pytest.raises(RunError, match=r"tokenizer\.json is missing from manifest\.json"):
        fake_bundle.open().path("tokenizer.json")


def test_a_folder_in_a_file_s_place_is_missing(fake_bundle: Any) -> None:
    (fake_bundle.folder / "tokenizer.json").unlink()
    (fake_bundle.folder / "tokenizer.json").mkdir()
    assert "tokenizer.json is missing" in error_of(fake_bundle.folder)


def test_a_link_out_of_the_bundle_is_refused(fake_bundle: Any, tmp_path: Path) -> None:
    path = fake_bundle.folder / "onnx/model.bin"
    outside = tmp_path / "outside"
    path.rename(outside)
    path.symlink_to(outside)
    assert f"leads outside the bundle, to {outside}" in error_of(fake_bundle.folder)


def test_a_link_within_the_bundle_is_fine(fake_bundle: Any) -> None:
    path = fake_bundle.folder / "onnx/model.bin"
    path.rename(fake_bundle.folder / "onnx/weights.tmp")
    path.symlink_to(fake_bundle.folder / "onnx/weights.tmp")
    open_bundle(fake_bundle.folder)


def test_a_linked_bundle_folder_is_fine(fake_bundle: Any, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(fake_bundle.folder)
    open_bundle(tmp_path / "link")


def test_checking_one_backend_leaves_the_others_out(fake_bundle: Any) -> None:
    tamper(fake_bundle.folder / "onnx/model.bin")
    tamper(fake_bundle.folder / "golden/onnx.json")
    bundle = read_bundle(fake_bundle.folder)
    bundle.check("executorch")
    with pytest.raises(RunError, match=r"onnx.* was changed"):
        bundle.check("onnx")


def test_hashing_reports_progress_up_to_the_whole(fake_bundle: Any) -> None:
    steps: list[tuple[int, int, str]] = []
    open_bundle(fake_bundle.folder, advance=lambda *step: steps.append(step))
    total = sum(entry.size_bytes for entry in fake_bundle.files())
    assert steps[-1][:2] == (total, total)
    assert {path for _, _, path in steps} == {entry.path for entry in fake_bundle.files()}


def test_a_backend_that_was_not_built_lists_those_that_were(fake_bundle: Any) -> None:
    with pytest.raises(RunError) as caught:
        fake_bundle.open().backend("coreml")
    assert "--backend coreml" in str(caught.value)
    assert "only executorch, onnx" in str(caught.value)


def test_a_text_file_that_is_no_text_is_named(fake_bundle: Any) -> None:
    (fake_bundle.folder / "tokenizer_config.json").write_bytes(b'{"a": "\xff"}')
    bundle = read_bundle(fake_bundle.folder)
    with pytest.raises(RunError, match=r"tokenizer_config\.json is not UTF-8"):
        bundle.read_object("tokenizer_config.json")


def test_a_json_file_that_is_no_object_is_named(fake_bundle: Any) -> None:
    fake_bundle.write("generation_config.json", "[]")
    with pytest.raises(RunError, match=r"generation_config\.json: expected a JSON object"):
        fake_bundle.open().read_object("generation_config.json")
