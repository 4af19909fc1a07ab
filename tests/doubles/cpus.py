"""The processors that the doubles can have: three classes of kernels, from plain to i8mm."""

from dataclasses import dataclass

from pocketlm.device_tests.errors import DeviceError

_ARMV8_0 = ("fp", "asimd", "evtstrm", "aes", "pmull", "sha1", "sha2", "crc32", "cpuid")
_ARMV8_2 = (
    *_ARMV8_0,
    "atomics",
    "fphp",
    "asimdhp",
    "asimdrdm",
    "lrcpc",
    "dcpop",
    "asimddp",
    "ssbs",
)
_ARMV8_6 = (*_ARMV8_2, "jscvt", "fcma", "sha3", "sha512", "asimdfhm", "uscat", "ilrcpc", "flagm",
            "paca", "pacg", "dcpodp", "flagm2", "frint", "i8mm", "bf16", "bti")  # fmt: skip


@dataclass(frozen=True)
class Cpu:
    """One processor.

    Attributes:
        qemu_name: how qemu calls it.
        part, features: what its /proc/cpuinfo says.
        machine_options: for a whole machine.
    """

    qemu_name: str
    part: str
    features: tuple[str, ...]
    machine_options: str = ""


# The names are qemu's. Without SVE and SME, "max" is close to what programs see on recent phones.
CPUS = {
    cpu.qemu_name: cpu
    for cpu in (
        Cpu("cortex-a57", "0xd07", _ARMV8_0),
        Cpu("cortex-a76", "0xd0b", _ARMV8_2),
        # Signing pointers by the real cipher takes most of the kernel's time.
        Cpu("max,sve=off,sme=off", "0xd4d", _ARMV8_6, ",pauth-impdef=on"),
    )
}


def cpu_called(name: str) -> Cpu:
    """Return a processor by qemu's name.

    Raises:
        DeviceError: there is no such one.
    """
    if name not in CPUS:
        raise DeviceError(f"no emulated processor {name!r}; there are {', '.join(map(repr, CPUS))}")
    return CPUS[name]


def cpuinfo(cpu: Cpu, cores: int) -> str:
    """Return /proc/cpuinfo, which qemu-user would leave to this machine's own."""
    lines = []
    for core in range(cores):
        lines += [
            f"processor\t: {core}",
            "BogoMIPS\t: 38.40",
            f"Features\t: {' '.join(cpu.features)}",
            "CPU implementer\t: 0x41",
            "CPU architecture: 8",
            "CPU variant\t: 0x1",
            f"CPU part\t: {cpu.part}",
            "CPU revision\t: 0",
            "",
        ]
    return "\n".join(lines) + "\n"
