"""What lies on a device for longer than a job, with this machine as the device."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from pocketlm.device_tests.device.external_tool import ToolRun
from pocketlm.device_tests.device.shell_target import ShellTarget
from pocketlm.device_tests.device.targets.host import HostLink
from pocketlm.device_tests.runners.payload import Payload, PayloadFile
from pocketlm.device_tests.runners.upload import (
    Uploaded,
    bundle_digest,
    folder_name,
    upload,
    upload_bundle,
)
from pocketlm.runtime_py.bundle import Bundle, read_bundle
from pocketlm.runtime_py.manifest import FileEntry
from tests.manifests import manifest_of
from tests.small_memory import small_memory

FILES = {
    "tokenizer.json": "tokens",
    "executorch/model.pte": "program" * 100,
    "executorch/more.bin": "more",
    "onnx/model.onnx": "graph",
    "onnx/model.onnx.data": "weights",
    "golden/executorch.json": "answers",
    "golden/onnx.json": "answers",
}


class CountingLink(HostLink):
    """This machine, counting the files that are sent."""

    def __init__(self) -> None:
        self.pushed: list[str] = []

    def push(self, source: Path, path: PurePosixPath, timeout_s: float) -> ToolRun:
        self.pushed.append(source.name)
        return super().push(source, path, timeout_s)


@pytest.fixture
def link() -> CountingLink:
    return CountingLink()


@pytest.fixture
def target(tmp_path: Path, link: CountingLink) -> ShellTarget:
    return ShellTarget(link, PurePosixPath(tmp_path / "a device"), provenance="host")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    folder = tmp_path / "bundle"
    for path, text in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    inputs = small_memory()
    files = [
        FileEntry(path, hashlib.sha256(text.encode()).hexdigest(), len(text))
        for path, text in FILES.items()
    ]
    models = {name: f"{name}/model" for name in inputs.backends}
    manifest = replace(manifest_of(inputs, models), files=tuple(files))
    (folder / "manifest.json").write_text(manifest.to_json())
    return Bundle(folder, manifest)


@pytest.fixture
def payload(tmp_path: Path) -> Payload:
    files = []
    for name, executable in (("runner", True), ("sampler", True), ("libx.so", False)):
        path = tmp_path / "native" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"I am {name}")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        files.append(PayloadFile(name, path, digest, executable))
    return Payload("onnx", "x86_64", tuple(files), ("./runner",), ("./sampler",), "x", "1")


def unheard(done: int, total: int, name: str) -> None:
    """Listen to nothing."""


def there(folder: PurePosixPath) -> dict[str, str]:
    root = Path(folder)
    return {
        str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()
    }


def test_folders_are_called_by_their_digests(
    target: ShellTarget, bundle: Bundle, payload: Payload
) -> None:
    manifest = (bundle.folder / "manifest.json").read_bytes()
    assert bundle_digest(bundle) == hashlib.sha256(manifest).hexdigest()
    assert folder_name(bundle) == bundle_digest(bundle)[:16]
    assert upload(target, bundle, payload, unheard) == Uploaded(
        target.folder / "bundles" / folder_name(bundle),
        target.folder / "runners" / payload.digest[:16],
        bundle.folder,
    )


def test_a_run_needs_one_backend_and_no_answers(
    target: ShellTarget, bundle: Bundle, payload: Payload, link: CountingLink
) -> None:
    uploaded = upload(target, bundle, payload, unheard)
    manifest = (bundle.folder / "manifest.json").read_text()
    names = ("tokenizer.json", "onnx/model.onnx", "onnx/model.onnx.data")
    assert there(uploaded.bundle) == {name: FILES[name] for name in names} | {
        "manifest.json": manifest
    }
    assert sorted(there(uploaded.runner)) == ["libx.so", "runner", "sampler"]
    # A folder that has a manifest is whole.
    assert link.pushed[3] == "manifest.json"


def test_programs_can_be_executed(target: ShellTarget, bundle: Bundle, payload: Payload) -> None:
    uploaded = upload(target, bundle, payload, unheard)
    for name, executable in (("runner", True), ("sampler", True)):
        assert os.access(uploaded.runner / name, os.X_OK) == executable
    assert not os.access(uploaded.bundle / "manifest.json", os.X_OK)


def test_a_bundle_alone_has_the_backends_that_were_asked_for(
    target: ShellTarget, bundle: Bundle
) -> None:
    both = upload_bundle(target, bundle, ("executorch", "onnx"), unheard)
    assert sorted(there(both)) == sorted(
        ["manifest.json", *(name for name in FILES if not name.startswith("golden/"))]
    )


def test_what_is_there_already_is_not_sent_again(
    target: ShellTarget, bundle: Bundle, payload: Payload, link: CountingLink
) -> None:
    upload(target, bundle, payload, unheard)
    assert len(link.pushed) == 7
    upload(target, bundle, payload, unheard)
    upload_bundle(target, bundle, ("onnx",), unheard)
    assert len(link.pushed) == 7
    # Another backend adds its own files.
    upload_bundle(target, bundle, ("executorch", "onnx"), unheard)
    assert link.pushed[7:] == ["model.pte", "more.bin"]


def test_a_file_that_was_damaged_there_is_sent_again(
    target: ShellTarget, bundle: Bundle, link: CountingLink
) -> None:
    folder = upload_bundle(target, bundle, ("onnx",), unheard)
    Path(folder / "onnx/model.onnx").write_text("GRAPH")
    link.pushed.clear()
    upload_bundle(target, bundle, ("onnx",), unheard)
    assert link.pushed == ["model.onnx"]
    assert there(folder)["onnx/model.onnx"] == "graph"


def test_progress_is_of_all_files_together(target: ShellTarget, bundle: Bundle) -> None:
    heard: list[tuple[int, int, str]] = []
    upload_bundle(target, bundle, ("onnx",), lambda *told: heard.append(told))
    total = 6 + 5 + 7 + (bundle.folder / "manifest.json").stat().st_size
    assert {of for _, of, _ in heard} == {total}
    done = [so_far for so_far, _, _ in heard]
    assert done == sorted(done) and done[-1] <= total
    assert heard[0] == (0, total, "tokenizer.json")
    assert {name for *_, name in heard} == {
        "tokenizer.json", "model.onnx", "model.onnx.data", "manifest.json",
    }  # fmt: skip


def test_real_bundles_leave_out_what_only_the_host_needs(
    target: ShellTarget, pico_bundle: Path
) -> None:
    folder = upload_bundle(target, read_bundle(pico_bundle), ("executorch",), unheard)
    names = {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}
    assert {"manifest.json", "executorch/model.pte", "tokenizer.json"} <= names
    assert not any(name.startswith(("golden/", "onnx/")) for name in names)
