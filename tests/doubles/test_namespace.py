"""Users of a double, and what is said where a machine does not give them."""

import os
from pathlib import Path

import pytest

from pocketlm.device_tests.errors import DeviceError
from tests.doubles.namespace import _subordinate


def test_the_first_range_that_is_large_enough_is_ours(tmp_path: Path) -> None:
    listed = tmp_path / "subuid"
    listed.write_text(f"other:1:65536\n{os.getuid()}:5:10\n{os.getuid()}:200000:65536\n")
    assert _subordinate(listed) == (200_000, 65535)


@pytest.mark.parametrize("text", [None, "", "other:100000:65536\n"])
def test_without_users_the_error_says_how_to_get_some(tmp_path: Path, text: str | None) -> None:
    listed = tmp_path / "subuid"
    if text is not None:
        listed.write_text(text)
    with pytest.raises(DeviceError, match=r"no 65536 further users.*usermod --add-subuids"):
        _subordinate(listed)
