"""Damaged, absent and hostile weight files."""

import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from pocketlm.models.checkpoint import open_checkpoint
from pocketlm.models.errors import ModelError
from pocketlm.models.random_checkpoint import write_random_checkpoint
from pocketlm.models.safetensors_files import read_headers
from pocketlm.models.shapes import Shape


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as failure:
        read_headers(folder)
    return str(failure.value)


@pytest.fixture
def sharded(tmp_path: Path, small_shape: Shape) -> Path:
    write_random_checkpoint(small_shape, tmp_path / "sharded", shard_bytes=20_000)
    return tmp_path / "sharded"


def edit_index(folder: Path, name: str, file: str) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"][name] = file
    path.write_text(json.dumps(index))


def test_headers_say_what_the_library_wrote(tmp_path: Path) -> None:
    tensors = {
        "a": torch.arange(6, dtype=torch.float32).view(2, 3),
        "b": torch.ones(5, dtype=torch.bfloat16),
        "c": torch.tensor(3.0),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    found = read_headers(tmp_path)
    assert {name: tensor.shape for name, tensor in found.items()} == {
        "a": (2, 3),
        "b": (5,),
        "c": (),
    }
    values = torch.frombuffer(found["a"].read_bytes(0, 24), dtype=torch.float32)
    assert values.tolist() == [0, 1, 2, 3, 4, 5]


@given(cut=st.integers(min_value=0, max_value=10_000))
@settings(max_examples=60, deadline=None)
def test_a_file_cut_anywhere_is_called_truncated(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    save_file({"a": torch.ones(50, 7), "b": torch.ones(3)}, folder / "model.safetensors")
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: cut % len(data)])
    message = refusal(folder)
    assert "model.safetensors: truncated or damaged" in message
    assert "download it again" in message


@given(junk=st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_arbitrary_bytes_never_crash_the_reader(
    junk: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("junk")
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(junk)) + junk)
    try:
        assert read_headers(folder) == {}
    except ModelError as error:
        assert "truncated or damaged" in str(error)


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}},
        {"a": {"dtype": "F33", "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1]}},
        {"a": [1, 2]},
        ["a"],
    ],
)
def test_a_header_that_contradicts_itself_is_refused(tmp_path: Path, header: object) -> None:
    text = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 4)
    assert "truncated or damaged" in refusal(tmp_path)


def test_an_absent_shard_is_named(sharded: Path) -> None:
    shard = sorted(sharded.glob("*.safetensors"))[1]
    shard.unlink()
    assert f"{shard}: absent, although model.safetensors.index.json names it" in refusal(sharded)


def test_a_tensor_that_is_not_in_its_shard_is_named(sharded: Path) -> None:
    edit_index(sharded, "model.ghost.weight", sorted(sharded.glob("*.safetensors"))[0].name)
    assert "model.ghost.weight: not in" in refusal(sharded)


@pytest.mark.parametrize(
    "file", ["../outside.safetensors", "/etc/passwd", "C:\\weights", "a\\..\\..\\b", "a/../../b"]
)
def test_a_shard_outside_the_folder_is_refused(sharded: Path, file: str) -> None:
    edit_index(sharded, "model.norm.weight", file)
    message = refusal(sharded)
    assert repr(file) in message
    assert "not inside the folder" in message


def test_an_index_without_a_map_says_so(sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").write_text("{}")
    assert 'has no "weight_map"' in refusal(sharded)


def test_shards_reached_by_links_are_read(tmp_path: Path, sharded: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in sharded.iterdir():
        (linked / path.name).symlink_to(path)
    assert open_checkpoint(linked).digest() == open_checkpoint(sharded).digest()


def test_shards_without_an_index_are_all_read(sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").unlink()
    open_checkpoint(sharded)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_file({"a": torch.ones(2)}, tmp_path / f"{name}.safetensors")
    assert "a: both in one.safetensors and in two.safetensors" in refusal(tmp_path)


def test_pickle_files_alone_come_with_the_way_to_convert_them(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    message = refusal(tmp_path)
    assert "weights only as pickle (pytorch_model.bin)" in message
    assert "save_pretrained" in message


def test_a_folder_without_weights_says_what_was_looked_for(tmp_path: Path) -> None:
    assert "no model.safetensors, no model.safetensors.index.json" in refusal(tmp_path)


def write_header(folder: Path, header: str | bytes, body: int) -> None:
    text = header.encode() if isinstance(header, str) else header
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * body)


def entry(begin: int, end: int, shape: str = "[2]") -> str:
    return f'{{"dtype": "F32", "shape": {shape}, "data_offsets": [{begin}, {end}]}}'


@pytest.mark.parametrize(
    ("header", "body"),
    [
        pytest.param(f'{{"a": {entry(0, 8)}, "b": {entry(0, 8)}}}', 8, id="the same bytes"),
        pytest.param(f'{{"a": {entry(0, 8)}, "b": {entry(4, 12)}}}', 12, id="overlapping"),
        pytest.param(f'{{"a": {entry(0, 8)}, "b": {entry(12, 20)}}}', 20, id="a gap"),
        pytest.param(f'{{"a": {entry(4, 12)}}}', 12, id="a gap before the first"),
        pytest.param(f'{{"a": {entry(0, 8)}}}', 12, id="bytes after the last"),
        pytest.param(f'{{"a": {entry(0, 8)}, "a": {entry(0, 8)}}}', 8, id="a name twice"),
        pytest.param(f'{{"a": {entry(0, 8, "[1e400]")}}}', 8, id="an infinite size"),
        pytest.param(f'{{"a": {entry(0, 8, "[2.0]")}}}', 8, id="a size that is not whole"),
        pytest.param(f'{{"a": {entry(0, 8, "[" + "9" * 5000 + "]")}}}', 8, id="a long number"),
        pytest.param(b'{"\xff": ' + entry(0, 8).encode() + b"}", 8, id="not UTF-8"),
        pytest.param("[" * 100_000, 0, id="deep nesting"),
        pytest.param(f'{{"{"a" * 100_000}\u0000": {entry(0, 9)}}}', 8, id="a long name"),
    ],
)
def test_a_header_that_the_format_forbids_is_refused_in_one_short_line(
    tmp_path: Path, header: str | bytes, body: int
) -> None:
    write_header(tmp_path, header, body)
    message = refusal(tmp_path).replace(str(tmp_path), "")
    assert "truncated or damaged" in message
    assert len(message) < 400
    assert "\n" not in message


def test_a_header_beyond_the_limit_of_the_format_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100_000_001))
        file.truncate(100_000_100)
    assert "header too large" in refusal(tmp_path)


def test_dtypes_that_no_weight_may_have_are_still_told(tmp_path: Path) -> None:
    header = '{"a": {"dtype": "F8_E8M0", "shape": [2], "data_offsets": [0, 2]}}'
    write_header(tmp_path, header, 2)
    assert read_headers(tmp_path)["a"].dtype == "F8_E8M0"
