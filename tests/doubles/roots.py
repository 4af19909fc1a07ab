"""The file trees of the emulated devices, put together from unpacked Debian packages.

A phone has what Android has: /system/bin with mksh and toybox, /data, and no /lib or /usr that a
runner's own loader could pick something up from. A board is a small Debian.
"""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from pocketlm.device_tests.device.facts import Provenance
from pocketlm.device_tests.errors import DeviceError
from tests.doubles.tools import run_tool

SHELL_UID = 2000  # Android's user "shell", whom adb commands run as
BOARD_USER, BOARD_UID = "pi", 1000
PHONE_MODEL = "Emulated phone"
# What tells `facts()` that a device is a double, and which.
PROVENANCE_FILE = "etc/pocketlm-double"
ADBD = "/apex/com.android.adbd/bin/adbd"

# adbd and toybox are programs of glibc. Their loader and libraries hide where nobody looks: the
# strings are replaced in place by ones that are not longer, so that nothing in a file moves.
_HIDDEN = "apex/com.android.adbd"
_LOADER = "ld-linux-aarch64.so.1"
_REPLACED = (
    (b"/lib/ld-linux-aarch64.so.1", b"/apex/com.android.adbd/ld"),
    (b"/lib/aarch64-linux-gnu/", b"/apex/com.android.adbd/"),
)
_LIBRARY_FOLDERS = ("usr/lib/aarch64-linux-gnu/android", "usr/lib/aarch64-linux-gnu", "usr/lib")
_PHONE_FOLDERS = (
    "data",
    "dev",
    "double",
    "mnt/board",
    "proc",
    "sdcard",
    "sys",
    "system/bin",
    "system/etc",
    "tmp",
)
# Android has them, its toybox or others'; Debian's toybox lacks them.
_NOT_IN_TOYBOX = ("awk", "bc", "dd", "diff", "expr", "gzip", "more", "stty", "tr")
# Of the packages' files, what a board leaves out: documents, the boot, and what none of it runs.
_NOT_ON_BOARD = ("boot", "usr/lib/modules", "usr/lib/systemd", "usr/lib/aarch64-linux-gnu/systemd",
                 "usr/lib/aarch64-linux-gnu/perl-base", "usr/share")  # fmt: skip
_GETPROP = f"""\
#!/system/bin/sh
# What is asked for is the first argument; unknown properties are empty, as on Android.
case "$1" in
  ro.product.model) echo '{PHONE_MODEL}' ;;
  ro.product.cpu.abi) echo arm64-v8a ;;
  *) echo ;;
esac
"""
_DUMPSYS = """\
#!/system/bin/sh
# Of Android's services what a profile asks for: the kernel's figures in Android's layout.
case "$1" in
  meminfo)
    if ! [ -r "/proc/$3/smaps_rollup" ]; then echo "No process found for: $3"; exit; fi
    while read -r name size unit; do
      case "$name" in Rss:) rss=$size ;; Pss:) pss=$size ;; SwapPss:) swap=$size ;; esac
    done < "/proc/$3/smaps_rollup"
    echo "** MEMINFO in pid $3 **"
    echo " App Summary"
    echo "       Private Other:  $pss"
    echo "           TOTAL PSS:  $pss   TOTAL RSS:  $rss   TOTAL SWAP PSS:  $swap"
    ;;
  thermalservice) echo "Thermal Status: 0" ;;
  *) echo "Can't find service: $1" ;;
esac
"""
_ACCOUNTS = f"""\
root:x:0:0::/root:/bin/sh
sshd:x:100:65534::/run/sshd:/usr/sbin/nologin
{BOARD_USER}:x:{BOARD_UID}:{BOARD_UID}::/home/{BOARD_USER}:/bin/bash
nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin
"""
_SSHD_CONFIG = """\
HostKey /run/pocketlm/host_key
AuthorizedKeysFile /run/pocketlm/authorized_keys
PasswordAuthentication no
UsePAM no
# What lies in /run belongs to another user than whom it lets in.
StrictModes no
PidFile none
Subsystem sftp internal-sftp
"""


def phone_root(unpacked: Path, out: Path, provenance: Provenance) -> None:
    """Fill a folder with an Android-shaped tree.

    Raises:
        DeviceError: the packages lack a file.
    """
    for name in _PHONE_FOLDERS:
        (out / name).mkdir(parents=True, exist_ok=True)
    (out / "bin").symlink_to("system/bin")
    (out / "etc").symlink_to("system/etc")
    hidden = out / _HIDDEN
    (hidden / "bin").mkdir(parents=True)
    adbd = _file(unpacked, "usr/lib/android-sdk/platform-tools/adbd")
    toybox = _file(unpacked, "usr/bin/toybox")
    for library in _libraries_of((adbd, toybox), unpacked):
        shutil.copyfile(library, hidden / library.name)
    _copy_relocated(_file(unpacked, f"usr/lib/{_LOADER}"), hidden / "ld")
    (hidden / _LOADER).unlink()
    (hidden / _LOADER).symlink_to("ld")
    _copy_relocated(adbd, out / ADBD.lstrip("/"))

    programs = out / "system" / "bin"
    _copy_relocated(toybox, programs / "toybox")
    shutil.copy(_file(unpacked, "usr/lib/aarch64-linux-musl/bin/mksh"), programs / "mksh")
    (programs / "sh").symlink_to("mksh")
    _write_program(programs / "getprop", _GETPROP)
    _write_program(programs / "dumpsys", _DUMPSYS)
    shutil.copy(_file(unpacked, "usr/bin/busybox"), out / "double" / "busybox")
    for applet in _applets(unpacked):
        if not (programs / applet).exists():
            (programs / applet).symlink_to("toybox")
    for applet in _NOT_IN_TOYBOX:
        if not (programs / applet).exists():
            (programs / applet).symlink_to("/double/busybox")

    (out / PROVENANCE_FILE).write_text(f"{provenance}\n")
    (out / "etc" / "passwd").write_text(
        f"root:x:0:0::/:/system/bin/sh\n"
        f"shell:x:{SHELL_UID}:{SHELL_UID}::/data/local/tmp:/system/bin/sh\n"
    )
    (out / "etc" / "group").write_text(f"root:x:0:\nshell:x:{SHELL_UID}:\n")


def board_root(unpacked: Path, out: Path, provenance: Provenance) -> None:
    """Fill a folder with a small Debian that has an ssh server.

    Raises:
        DeviceError: the packages lack a file.
    """
    _file(unpacked, "usr/sbin/sshd")
    for name in ("etc", "usr"):
        shutil.copytree(unpacked / name, out / name, symlinks=True)
    for name in _NOT_ON_BOARD:
        shutil.rmtree(out / name, ignore_errors=True)
    for name in ("bin", "lib", "sbin"):
        (out / name).symlink_to(f"usr/{name}")
    for name in ("dev", f"home/{BOARD_USER}", "proc", "root", "run", "sys", "tmp", "var/log"):
        (out / name).mkdir(parents=True)
    (out / "usr" / "bin" / "sh").unlink(missing_ok=True)
    (out / "usr" / "bin" / "sh").symlink_to("dash")
    (out / "usr" / "bin" / "awk").symlink_to("mawk")
    etc = out / "etc"
    (out / PROVENANCE_FILE).write_text(f"{provenance}\n")
    (etc / "passwd").write_text(_ACCOUNTS)
    (etc / "group").write_text(
        f"root:x:0:\n{BOARD_USER}:x:{BOARD_UID}:\nnogroup:x:65534:\ntty:x:5:\n"
    )
    (etc / "shadow").write_text(f"root:*:1::::::\n{BOARD_USER}:*:1::::::\n")
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nshadow: files\n")
    (etc / "ssh" / "sshd_config").write_text(_SSHD_CONFIG)


def _copy_relocated(source: Path, place: Path) -> None:
    content = source.read_bytes()
    for old, new in _REPLACED:
        content = content.replace(old, new.ljust(len(old), b"\0"))
    place.write_bytes(content)
    place.chmod(0o755)


def _libraries_of(programs: Iterable[Path], unpacked: Path) -> list[Path]:
    found: dict[str, Path] = {}
    waiting = list(programs)
    while waiting:
        listed = run_tool(["readelf", "--dynamic", waiting.pop()])
        for name in re.findall(r"\(NEEDED\).*\[(.+)\]", listed):
            if name not in found:
                found[name] = _library(unpacked, name)
                waiting.append(found[name])
    return list(found.values())


def _library(unpacked: Path, name: str) -> Path:
    for folder in _LIBRARY_FOLDERS:
        if (unpacked / folder / name).exists():
            return unpacked / folder / name
    raise DeviceError(f"no downloaded Debian package has the library {name}")


def _applets(unpacked: Path) -> list[str]:
    libraries = unpacked / "usr" / "lib"
    return run_tool(
        [
            "qemu-aarch64-static",
            libraries / _LOADER,
            "--library-path",
            libraries / "aarch64-linux-gnu",
            unpacked / "usr" / "bin" / "toybox",
        ]
    ).split()


def _file(unpacked: Path, name: str) -> Path:
    if not (unpacked / name).exists():
        raise DeviceError(f"no downloaded Debian package has /{name}")
    return unpacked / name


def _write_program(place: Path, text: str) -> None:
    place.write_text(text)
    place.chmod(0o755)
