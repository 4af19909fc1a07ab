"""Keys and configuration for one server."""

import subprocess
from pathlib import Path

import pytest

from tests.doubles.ssh_access import ALIAS, SshAccess
from tests.doubles.tools import advice, missing_tools

_TOOLS = ("ssh", "ssh-keygen")
pytestmark = pytest.mark.skipif(bool(missing_tools(_TOOLS)), reason=advice(missing_tools(_TOOLS)))


def test_the_configuration_leads_to_the_server_with_our_key_alone(tmp_path: Path) -> None:
    access = SshAccess.make(tmp_path / "ssh")
    access.lead_to(1234)
    shown = subprocess.run(
        ["ssh", "-G", "-F", access.config, ALIAS], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {
        "hostname 127.0.0.1",
        "port 1234",
        "user pi",
        f"identityfile {tmp_path}/ssh/key",
        f"userknownhostsfile {tmp_path}/ssh/known_hosts",
        "stricthostkeychecking true",
        "batchmode yes",
    } <= set(shown)
    assert (tmp_path / "ssh" / "known_hosts").read_text().startswith("[127.0.0.1]:1234 ssh-ed25519")


def test_the_server_gets_no_private_key_of_the_client(tmp_path: Path) -> None:
    access = SshAccess.make(tmp_path / "ssh")
    assert sorted(path.name for path in access.server.iterdir()) == [
        "authorized_keys",
        "host_key",
        "host_key.pub",
    ]
