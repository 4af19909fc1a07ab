"""Sizes in and out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketlm.edge_build.byte_sizes import parse_size, shown_size, written_size
from pocketlm.edge_build.errors import BuildError


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("4G", 4 << 30),
        ("4GiB", 4 << 30),
        ("4Gi", 4 << 30),
        ("4GB", 4_000_000_000),
        ("4096M", 4 << 30),
        ("3.5GiB", 3758096384),
        ("512 mb", 512_000_000),
        ("1T", 1 << 40),
        (" 64k ", 65536),
    ],
)
def test_sizes_are_read_as_coreutils_does(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text", ["", "4", "G", "-4G", "4X", "4GGB", "1e3M", "nanG", "4,5G", "٤G x"]
)
def test_anything_else_is_answered_with_examples(text: str) -> None:
    with pytest.raises(BuildError, match=r"is not a size; write .* 4G or 4GiB .* 4GB .* 4096M"):
        parse_size(text)


def test_nothing_is_no_size() -> None:
    with pytest.raises(BuildError, match="'0G' is no memory at all"):
        parse_size("0G")


@given(st.integers(1, 1 << 20), st.sampled_from("KMGT"))
def test_whole_binary_sizes_are_exact(number: int, letter: str) -> None:
    assert parse_size(f"{number}{letter}") == number << 10 * (1 + "KMGT".index(letter))


def test_sizes_are_shown_in_decimal_units() -> None:
    assert shown_size(4_390_420_480) == "4.39 GB"
    assert shown_size(612_400_000) == "612 MB"
    assert shown_size(0) == "0 MB"


@pytest.mark.parametrize("text", ["4G", "100M", "3584M", "4GB", "1500MB", "1T", "3.7KB"])
def test_a_size_is_written_as_it_was_asked_for(text: str) -> None:
    assert written_size(parse_size(text)) == text


@given(st.integers(1, 1 << 43))
def test_a_written_size_is_read_back(size_bytes: int) -> None:
    assert parse_size(written_size(size_bytes)) == size_bytes
