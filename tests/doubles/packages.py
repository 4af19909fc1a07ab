"""Debian packages for arm64, downloaded past this machine's own apt. Installs nothing.

apt runs with lists, a package cache and a status file of its own, so what the machine's apt knows
is never read or changed; only its mirror and its network settings are taken over. No maintainer
script runs, and none of this needs root.
"""

import os
import re
import shutil
from pathlib import Path

from pocketlm.device_tests.errors import DeviceError
from tests.doubles.tools import run_tool

# The oldest Debian that has adbd; its libc also decides what the board's programs can be.
SUITE = "trixie"
# With all that they depend on.
PROGRAMS = (
    "adbd",
    "base-files",
    "bash",
    "busybox-static",
    "coreutils",
    "dash",
    "findutils",
    "grep",
    "gzip",
    "mawk",
    "mksh",
    "openssh-server",
    "procps",
    "sed",
    "tar",
    "toybox",
    "util-linux",
)
# Names the current kernel; that alone is downloaded, not what would install it.
KERNEL = "linux-image-cloud-arm64"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def download(out: Path) -> None:
    """Fill a folder with .deb files, 65 MB.

    Raises:
        DeviceError: a tool, the mirror or its key is missing, or a download fails.
    """
    if not _KEYRING.exists():
        raise DeviceError(
            f"{_KEYRING}, which packages are checked with, is missing; "
            "on Debian: apt-get install debian-archive-keyring"
        )
    work = out / "apt"
    for folder in ("lists/partial", "cache/archives/partial", "state"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {_mirror()} {SUITE} main\n")
    (work / "apt.conf").write_text(_configuration(work))
    env = {**os.environ, "APT_CONFIG": str(work / "apt.conf"), "LC_ALL": "C"}
    run_tool(["apt-get", "-q", "update"], env=env, timeout_s=600)
    run_tool(
        ["apt-get", "-qq", "--yes", "--download-only", "install", *PROGRAMS], env=env, timeout_s=900
    )
    run_tool(["apt-get", "-qq", "download", _kernel_package(env)], env=env, cwd=out, timeout_s=900)
    for package in (work / "cache" / "archives").glob("*.deb"):
        package.rename(out / package.name)
    shutil.rmtree(work)


def unpack(packages: Path, out: Path) -> None:
    """Unpack every package of a folder into one tree."""
    for package in sorted(packages.glob("*.deb")):
        run_tool(["dpkg-deb", "--extract", package, out])


def _mirror() -> str:
    asked = os.environ.get("POCKETLM_DEBIAN_MIRROR")
    if asked:
        return asked
    listed = run_tool(["apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT)"])
    for line in listed.splitlines():
        address, component = line.rsplit(maxsplit=1)
        if component == "main" and address.rstrip("/").endswith("/debian"):
            return address
    raise DeviceError(
        "this machine's apt sources name no Debian mirror; "
        "set POCKETLM_DEBIAN_MIRROR to the address of one, up to its /debian"
    )


def _configuration(work: Path) -> str:
    network = [
        line
        for line in run_tool(["apt-config", "dump"]).splitlines()
        if line.startswith(("Acquire::http", "Acquire::https", "Acquire::Retries"))
    ]
    ours = {
        "Dir::Etc::main": "-",
        "Dir::Etc::parts": "-",
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State": work / "state",
        "Dir::State::lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",  # the folder is ours alone
        "Acquire::Languages": "none",
        "Debug::NoLocking": "true",
    }
    return "".join(f"{line}\n" for line in network) + "".join(
        f'{name} "{value}";\n' for name, value in ours.items()
    )


def _kernel_package(env: dict[str, str]) -> str:
    shown = run_tool(["apt-cache", "show", "--no-all-versions", KERNEL], env=env)
    found = re.search(r"^Depends: (linux-image-\S+)", shown, re.MULTILINE)
    if found is None:
        raise DeviceError(f"{KERNEL} of {SUITE} names no kernel package")
    return found.group(1)
