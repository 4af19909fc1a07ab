"""What Linux and Android say of themselves in files and commands, as text → `DeviceFacts`.

Pure functions, and the command whose output they read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pocketlm.device_tests.device.facts import EMULATED, DeviceFacts, Provenance
from pocketlm.device_tests.device.shell import files_section, quote, read_sections, section
from pocketlm.device_tests.device.shell_numbers import NUMBER, whole_number
from pocketlm.device_tests.errors import DeviceError

_PROPERTIES = (
    "ro.product.manufacturer",
    "ro.product.model",
    "ro.build.version.release",
)
_DEVICE_TREE = "/sys/firmware/devicetree/base"
_ASK_PROPERTIES = "; ".join(f'echo "{name}=$(getprop {name})"' for name in _PROPERTIES)


def facts_command(folder: str) -> str:
    """Return shell text that prints what `read_facts` reads.

    Args:
        folder: any folder on the disk that jobs go to; it need not exist yet.
    """
    return "; ".join(
        (
            section("machine", "uname -m"),
            section("kernel", "uname -r"),
            files_section("cpuinfo", ("/proc/cpuinfo",)),
            files_section("meminfo", ("/proc/meminfo",)),
            files_section("release", ("/etc/os-release",)),
            section("properties", f"command -v getprop && {{ {_ASK_PROPERTIES}; }}"),
            # Device tree texts end in a zero byte.
            section("board", f"tr '\\000' '\\n' < {_DEVICE_TREE}/model"),
            section("compatible", f"tr '\\000' '\\n' < {_DEVICE_TREE}/compatible"),
            section("product", "cat /sys/class/dmi/id/product_name"),
            section("page", "getconf PAGE_SIZE"),
            files_section("spared", ("/proc/self/oom_score_adj",)),
            section("double", "cat /etc/pocketlm-double"),
            # Another process sees what really executes this shell.
            section("shell", "ls -l /proc/$$/exe"),
            section("disk", disk_command(folder)),
        )
    )


def disk_command(folder: str) -> str:
    """Return shell text that prints `df` of the nearest folder that exists."""
    # It ends for a relative path too: what holds no slash between two names becomes the root.
    up = "case $d in ?*/*) d=${d%/*};; *) d=/;; esac"
    return f'd={quote(folder)}; while [ ! -d "$d" ]; do {up}; done; df -k "$d"'


def read_facts(output: str, provenance: Provenance | None = None) -> DeviceFacts:
    """Read the output of `facts_command`.

    Args:
        provenance: where it is known; otherwise it is read off.

    Raises:
        DeviceError: /proc/meminfo is missing: this is no Linux.
    """
    found = read_sections(output)
    cpu = read_cpuinfo(found.get("cpuinfo", ""))
    memory = read_kilobytes(found.get("meminfo", ""))
    if "MemTotal" not in memory:
        raise DeviceError(
            "reading what the device is: its /proc/meminfo has no MemTotal; it must run Linux"
        )
    return DeviceFacts(
        model=_model(found, cpu),
        system=_system(found),
        kernel=found.get("kernel", ""),
        architecture=found.get("machine", ""),
        cores=cpu.cores,
        cpu_features=cpu.features,
        ram_bytes=memory["MemTotal"],
        available_bytes=memory.get("MemAvailable", memory.get("MemFree", 0)),
        swap_bytes=memory.get("SwapTotal", 0),
        free_swap_bytes=memory.get("SwapFree", 0),
        free_bytes=read_free_bytes(found.get("disk", "")),
        page_bytes=whole_number(found.get("page", "")) or 4096,
        oom_score_adj=whole_number(found.get("spared", "")),
        provenance=provenance or _provenance(found),
    )


@dataclass(frozen=True)
class CpuInfo:
    """What /proc/cpuinfo says.

    Attributes:
        features: those that every core has, in the file's order.
        name: of the model, empty where the file does not say.
    """

    cores: int
    features: tuple[str, ...]
    name: str


def read_cpuinfo(text: str) -> CpuInfo:
    """Read /proc/cpuinfo of x86 and ARM."""
    lines = [
        (key.strip(), value.strip())
        for key, colon, value in (line.partition(":") for line in text.splitlines())
        if colon
    ]
    cores = sum(key == "processor" for key, _ in lines)
    sets = [value.split() for key, value in lines if key in ("Features", "flags")]
    shared = set(sets[0]).intersection(*sets[1:]) if sets else set()
    names = [value for key, value in lines if key in ("model name", "Hardware", "Model")]
    features = tuple(name for name in dict.fromkeys(sets[0] if sets else ()) if name in shared)
    return CpuInfo(max(cores, 1), features, names[-1] if names else "")


def read_kilobytes(text: str) -> dict[str, int]:
    """Read "Name:   123 kB" lines, as /proc/meminfo and /proc/PID/status have them → bytes."""
    found = re.findall(rf"^(\S+):\s+({NUMBER}) kB", text, re.MULTILINE)
    return {name: int(kilobytes) * 1024 for name, kilobytes in found}


def read_free_bytes(text: str) -> int:
    """Read what `df -k` says is available; 0 where it does not say."""
    # A long device name puts the figures on a line of their own: size, used, available, percent.
    found = re.findall(rf"\s({NUMBER})\s+(-?{NUMBER})\s+(-?{NUMBER})\s+\d+%", text)
    return max(0, int(found[-1][2])) * 1024 if found else 0


def read_properties(text: str) -> dict[str, str]:
    """Read NAME=VALUE lines, quoted or not."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: value.strip().strip('"') for name, equals, value in pairs if equals}


def _model(found: Mapping[str, str], cpu: CpuInfo) -> str:
    properties = read_properties(found.get("properties", ""))
    maker = properties.get("ro.product.manufacturer", "")
    product = properties.get("ro.product.model", "")
    if product:
        return product if product.lower().startswith(maker.lower()) else f"{maker} {product}"
    board = found.get("board", "").strip()
    return board or cpu.name or found.get("product", "") or "unknown"


def _system(found: Mapping[str, str]) -> str:
    android = read_properties(found.get("properties", "")).get("ro.build.version.release")
    if android:
        return f"Android {android}"
    return read_properties(found.get("release", "")).get("PRETTY_NAME") or "Linux"


def _provenance(found: Mapping[str, str]) -> Provenance:
    # Our own doubles say so themselves; others give themselves away.
    for provenance in EMULATED:
        if found.get("double", "").strip() == provenance:
            return provenance
    _, _, executable = found.get("shell", "").partition(" -> ")
    if "qemu-" in executable:
        return "qemu-user"
    # The board of qemu-system's "virt" machine.
    return "qemu-system" if "linux,dummy-virt" in found.get("compatible", "") else "real"
