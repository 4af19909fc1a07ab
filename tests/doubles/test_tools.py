"""Programs of this machine, and the errors when they are missing or fail."""

import sys

import pytest

from pocketlm.device_tests.errors import DeviceError
from tests.doubles import tools
from tests.doubles.tools import advice, guarded, missing_tools, run_tool, tool


def test_a_missing_tool_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_PATH", "/nowhere")
    assert missing_tools(("adb", "ssh")) == ("adb", "ssh")
    with pytest.raises(DeviceError, match=r"needs mke2fs.*apt-get install e2fsprogs"):
        tool("mke2fs")


def test_several_missing_tools_name_each_package_once() -> None:
    assert advice(("ssh", "ssh-keygen", "adb")) == (
        "needs ssh, ssh-keygen, adb; on Debian: apt-get install openssh-client adb"
    )


def test_cross_compilers_have_packages_too() -> None:
    assert advice(("aarch64-linux-gnu-gcc", "aarch64-linux-gnu-g++")) == (
        "needs aarch64-linux-gnu-gcc, aarch64-linux-gnu-g++; on Debian: apt-get install "
        "gcc-aarch64-linux-gnu g++-aarch64-linux-gnu"
    )


def test_a_tool_that_fails_says_what_it_said() -> None:
    with pytest.raises(DeviceError, match=r"dpkg-deb failed with status 2: .*no-such-file"):
        run_tool(["dpkg-deb", "--extract", "no-such-file", "out"])


def test_a_tool_that_takes_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "tool", lambda name: sys.executable)
    for_ever = "import threading; threading.Event().wait()"
    with pytest.raises(DeviceError, match=r"readelf did not end within 0\.05 s"):
        run_tool(["readelf", "-c", for_ever], timeout_s=0.05)


def test_a_guarded_command_ends_with_its_parent() -> None:
    assert guarded(["ssh", "-V"])[1:3] == ["--pdeathsig", "KILL"]
