"""Keys for one double's ssh server, made for it alone, and the configuration to log in with."""

from dataclasses import dataclass
from pathlib import Path

from tests.doubles.roots import BOARD_USER
from tests.doubles.tools import run_tool

ALIAS = "pocketlm-double"


@dataclass(frozen=True)
class SshAccess:
    """A folder with the keys of both sides.

    Attributes:
        config: what `ssh -F` takes; in it the double is called `ALIAS`.
        server: the folder with what the server needs: host_key, authorized_keys.
    """

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def server(self) -> Path:
        return self.folder / "server"

    @classmethod
    def make(cls, folder: Path) -> "SshAccess":
        """Make the keys in a new folder.

        Raises:
            DeviceError: ssh-keygen is missing.
        """
        access = cls(folder)
        access.server.mkdir(parents=True)
        for place in (access.server / "host_key", folder / "key"):
            run_tool(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", place])
        (folder / "key.pub").rename(access.server / "authorized_keys")
        return access

    def lead_to(self, port: int) -> None:
        """Write the configuration for a server on a port of 127.0.0.1."""
        public = (self.server / "host_key.pub").read_text()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
        lines = (
            f"Host {ALIAS}",
            "HostName 127.0.0.1",
            f"Port {port}",
            f"User {BOARD_USER}",
            f"IdentityFile {self.folder / 'key'}",
            "IdentitiesOnly yes",
            "IdentityAgent none",
            f"UserKnownHostsFile {self.folder / 'known_hosts'}",
            "GlobalKnownHostsFile none",
            "StrictHostKeyChecking yes",
            "UpdateHostKeys no",
            "BatchMode yes",
        )
        self.config.write_text("\n".join(lines) + "\n")
