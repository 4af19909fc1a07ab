"""Targets over the system's own ssh, against a server of our own on a free port."""

import contextlib
import getpass
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from pocketlm.device_tests.device.shell_target import ShellTarget
from pocketlm.device_tests.device.target import Finished, LostDeviceError, RefusedError, Target
from pocketlm.device_tests.device.targets import open_target
from pocketlm.device_tests.device.targets.ssh import CONFIG_VARIABLE, SshLink
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.job.lifecycle import run_job
from pocketlm.device_tests.job.values import JobSpec
from tests.doubles.tools import advice, missing_tools, tool

_MISSING = missing_tools(("ssh", "sshd"))
pytestmark = pytest.mark.skipif(bool(_MISSING), reason=advice(_MISSING))

DEADLINE_S = 20


@dataclass
class Server:
    """An ssh server that lets this user in as "phone", into a home of its own."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def start(self) -> None:
        command = [tool("sshd"), "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, start_new_session=True)
        deadline = time.monotonic() + DEADLINE_S
        while not is_open(self.port):
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        """End the server and every connection of it."""
        if self.process is not None:
            for child in self.connections():
                # One whose client has left may end before it is killed.
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            self.process.kill()
            self.process.wait()
            self.process = None

    def connections(self) -> list[psutil.Process]:
        """Return the processes that serve connections, and what they have started."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)


def is_open(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    folder = tmp_path / "server"
    found = Server(folder, free_port())
    found.home.mkdir(parents=True)
    for name in ("host_key", "user_key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    host_key = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{found.port} {host_key}")
    (folder / "authorized_keys").write_text((folder / "user_key.pub").read_text())
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{found.port}\n"
        f"HostKey {folder}/host_key\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\n"
        "StrictModes no\nPasswordAuthentication no\nUsePAM no\nPidFile none\n"
        f"SetEnv HOME={found.home}\n"
    )
    (folder / "ssh_config").write_text(
        f"Host phone\n HostName 127.0.0.1\n Port {found.port}\n User {getpass.getuser()}\n"
        f" IdentityFile {folder}/user_key\n IdentitiesOnly yes\n"
        f" UserKnownHostsFile {folder}/known_hosts\n"
    )
    monkeypatch.setenv(CONFIG_VARIABLE, str(folder / "ssh_config"))
    # sshd wants a folder that only root can make.
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def target(server: Server) -> Iterator[Target]:
    opened = open_target("ssh:phone")
    yield opened
    opened.close()


def test_commands_run(target: Target, server: Server) -> None:
    assert target.name == "ssh:phone"
    assert Path(target.folder) == server.home / ".pocketlm"
    assert target.run('echo "it\'s"; exit 3') == Finished(3, "it's\n")
    # The status with which ssh says that it failed itself.
    assert target.run("exit 255") == Finished(255, "")
    facts = target.facts()
    assert facts.provenance == "real"
    assert facts.ram_bytes > 0


def test_job_runs(target: Target, tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("echo begun; head -c 300000 /dev/urandom > made")
    spec = JobSpec(("sh", "run.sh"), {"run.sh": tmp_path / "run.sh"}, fetch=("made",))
    result = run_job(target, spec, tmp_path / "out")
    assert result.verdict == "ok"
    assert result.files["made"].stat().st_size == 300_000
    assert [p for p in Path(target.folder).rglob("*") if p.is_file()] == []


def test_commands_share_a_connection_that_ends_with_the_target(server: Server) -> None:
    target = open_target("ssh:phone")
    assert isinstance(target, ShellTarget)
    assert isinstance(target.link, SshLink)
    for _ in range(3):
        target.run("true")
    assert target.link.socket.exists()
    target.close()
    assert not target.link.socket.parent.exists()
    assert (server.folder / "log").read_text().count("Accepted publickey") == 1


def test_connection_that_breaks_in_a_command_is_lost(target: Target, server: Server) -> None:
    serving = " ".join(str(process.pid) for process in server.connections())
    with pytest.raises(LostDeviceError, match="ssh:phone: the connection broke"):
        target.run(f"kill -9 {serving}; sleep 5")
    # The next one is made anew.
    assert target.run("echo back").output == "back\n"


def test_server_that_is_gone_is_lost(server: Server) -> None:
    target = open_target("ssh:phone")
    server.stop()
    with pytest.raises(LostDeviceError, match=r"Connection .*; check its network and power"):
        target.run("true")
    server.start()
    assert target.run("echo back").output == "back\n"
    target.close()


def test_job_outlives_its_connection(target: Target, server: Server, tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("echo begun; sleep 1; echo ended")
    lines: list[str] = []

    def cut(line: str) -> None:
        lines.append(line)
        if line == "begun":
            server.stop()
            server.start()

    spec = JobSpec(("sh", "run.sh"), {"run.sh": tmp_path / "run.sh"})
    assert run_job(target, spec, tmp_path / "out", cut).verdict == "ok"
    assert lines == ["begun", "ended"]


def test_server_that_hangs_does_not_answer(target: Target, server: Server) -> None:
    assert server.process is not None
    stopped = [psutil.Process(server.process.pid), *server.connections()]
    for process in stopped:
        process.suspend()
    try:
        with pytest.raises(LostDeviceError, match="a command: no answer within 1 s"):
            target.run("true", timeout_s=1)
    finally:
        for process in stopped:
            process.resume()
    assert target.run("echo back").output == "back\n"


def test_key_that_is_not_accepted_is_unauthorized(server: Server) -> None:
    (server.folder / "authorized_keys").write_text("")
    with pytest.raises(RefusedError, match=r"without a password: ssh-copy-id phone") as error:
        open_target("ssh:phone")
    assert error.value.reason == "unauthorized"


def test_unknown_server_is_not_trusted(server: Server) -> None:
    (server.folder / "known_hosts").write_text("")
    with pytest.raises(RefusedError, match="connect once by hand: ssh phone") as error:
        open_target("ssh:phone")
    assert error.value.reason == "unauthorized"


def test_host_that_is_not_there_is_said(server: Server) -> None:
    server.stop()
    with pytest.raises(LostDeviceError, match=r"Connection refused.*; is ssh:phone its name, and"):
        open_target("ssh:phone")


@pytest.mark.parametrize("name", ["ssh", "ssh:", "ssh:-oProxyCommand=x"])
def test_names_that_are_no_host(name: str) -> None:
    with pytest.raises(DeviceError, match=r"it needs a host, as in ssh:pi@raspberrypi\.local"):
        open_target(name)


@pytest.mark.parametrize("start", ["echo Welcome", "printf Welcome", "cd /; set -e; echo Hi >&2"])
def test_an_account_that_greets_works_like_any_other(
    start: str, server: Server, tmp_path: Path
) -> None:
    (server.home / ".bashrc").write_text(f"{start}\n")
    target = open_target("ssh:phone")
    assert Path(target.folder) == server.home / ".pocketlm"
    (tmp_path / "run.sh").write_text("head -c 300000 /dev/urandom > made")
    spec = JobSpec(("sh", "run.sh"), {"run.sh": tmp_path / "run.sh"}, fetch=("made",))
    result = run_job(target, spec, tmp_path / "out")
    assert result.verdict == "ok"
    assert result.files["made"].stat().st_size == 300_000
    target.close()


def test_an_account_that_ends_before_the_command_is_named(server: Server) -> None:
    (server.home / ".bashrc").write_text("echo Welcome; exit 0\n")
    with pytest.raises(DeviceError, match=r"ssh:phone: its shell printed 'Welcome' .*\.bashrc"):
        open_target("ssh:phone")


def test_a_home_that_is_no_path_is_refused(server: Server) -> None:
    (server.home / ".bashrc").write_text("export HOME=Welcome\n")
    with pytest.raises(DeviceError, match=r"\$HOME is 'Welcome', which is no absolute path"):
        open_target("ssh:phone")
