"""What devices say of themselves, from recorded text."""

import subprocess
from dataclasses import replace

import pytest

from pocketlm.device_tests.device.facts import DeviceFacts
from pocketlm.device_tests.device.system_files import (
    disk_command,
    facts_command,
    read_cpuinfo,
    read_facts,
    read_free_bytes,
    read_kilobytes,
)
from pocketlm.device_tests.errors import DeviceError

PHONE_CORES = """processor\t: 0
BogoMIPS\t: 38.40
Features\t: fp asimd asimddp i8mm sve
CPU implementer\t: 0x41

processor\t: 1
Features\t: fp asimd asimddp i8mm

Hardware\t: Qualcomm Technologies, Inc SM8550
"""
PHONE = f"""
@@ machine
aarch64

@@ kernel
5.15.78-android13

@@ cpuinfo
{PHONE_CORES}
@@ meminfo
MemTotal:        3840000 kB
MemFree:          312000 kB
MemAvailable:    1650000 kB
SwapTotal:       2097148 kB
SwapFree:        1400000 kB
HugePages_Total:       0

@@ release

@@ properties
/system/bin/getprop
ro.product.manufacturer=samsung
ro.product.model=SM-S918B
ro.build.version.release=16

@@ board

@@ page
16384

@@ spared
-1000

@@ shell
lrwxrwxrwx 1 shell shell 0 2026-01-01 00:00 /proc/77/exe -> /system/bin/sh

@@ disk
Filesystem     1K-blocks     Used Available Use% Mounted on
/dev/block/dm-43 112233445 10000000 102233445  9% /data
"""


def test_facts_of_a_phone() -> None:
    assert read_facts(PHONE) == DeviceFacts(
        model="samsung SM-S918B",
        system="Android 16",
        kernel="5.15.78-android13",
        architecture="aarch64",
        cores=2,
        cpu_features=("fp", "asimd", "asimddp", "i8mm"),
        ram_bytes=3_840_000 * 1024,
        available_bytes=1_650_000 * 1024,
        swap_bytes=2_097_148 * 1024,
        free_swap_bytes=1_400_000 * 1024,
        free_bytes=102_233_445 * 1024,
        page_bytes=16384,
        oom_score_adj=-1000,
        provenance="real",
    )


def test_facts_of_a_board() -> None:
    text = PHONE.replace("/system/bin/getprop\nro.product.manufacturer=samsung\n", "")
    text = text.replace("ro.product.model=SM-S918B\nro.build.version.release=16\n", "")
    text = text.replace("@@ board\n", "@@ board\nRaspberry Pi 5 Model B Rev 1.0\n")
    text = text.replace("@@ release\n", '@@ release\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n')
    found = read_facts(text)
    assert found.model == "Raspberry Pi 5 Model B Rev 1.0"
    assert found.system == "Debian GNU/Linux 13 (trixie)"


def test_emulation_is_recognized() -> None:
    emulated = PHONE.replace("-> /system/bin/sh", "-> /usr/bin/qemu-aarch64-static")
    assert read_facts(emulated).provenance == "qemu-user"
    machine = PHONE.replace("@@ page", "@@ compatible\nlinux,dummy-virt\n\n@@ page")
    assert read_facts(machine).provenance == "qemu-system"
    double = PHONE.replace("@@ page", "@@ double\nqemu-system\n\n@@ page")
    assert read_facts(double).provenance == "qemu-system"
    assert read_facts(PHONE, "host").provenance == "host"


def test_what_a_device_hides_is_left_out() -> None:
    found = read_facts("@@ meminfo\nMemTotal: 100 kB\nMemFree: 40 kB\n")
    assert found.available_bytes == 40 * 1024
    assert (found.model, found.system, found.cores) == ("unknown", "Linux", 1)
    assert (found.swap_bytes, found.free_bytes, found.page_bytes) == (0, 0, 4096)
    assert found.oom_score_adj is None


def test_without_proc_it_is_no_device_of_ours() -> None:
    with pytest.raises(DeviceError, match="no MemTotal; it must run Linux"):
        read_facts("@@ machine\narm64\n")


def test_features_are_those_that_every_core_has() -> None:
    assert read_cpuinfo(PHONE_CORES).features == ("fp", "asimd", "asimddp", "i8mm")
    x86 = read_cpuinfo("processor: 0\nmodel name: Some CPU\nflags: sse avx2\n")
    assert (x86.cores, x86.features, x86.name) == (1, ("sse", "avx2"), "Some CPU")


def test_kilobyte_lines_are_bytes() -> None:
    status = "Name:\trunner\nVmHWM:\t  196856 kB\nRssAnon:\t 123 kB\nThreads:\t2\n"
    assert read_kilobytes(status) == {"VmHWM": 196_856 * 1024, "RssAnon": 123 * 1024}


@pytest.mark.parametrize(
    "text",
    [
        "Filesystem 1K-blocks Used Available Use% Mounted on\n/dev/x 100 58 42 58% /data\n",
        # toybox breaks the line after a long name
        "Filesystem 1K-blocks Used Available Use% Mounted on\n/dev/block/dm\n 100 58 42 58% /\n",
    ],
)
def test_free_space_is_read(text: str) -> None:
    assert read_free_bytes(text) == 42 * 1024


def test_free_space_of_a_full_disk_is_none() -> None:
    assert read_free_bytes("Filesystem 1K-blocks\n/dev/x 100 101 -1 101% /\n") == 0
    assert read_free_bytes("df: /x: No such file") == 0


def test_commands_run_on_this_machine() -> None:
    command = facts_command("/var/tmp/no such/folder yet")
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    found = read_facts(done.stdout)
    assert found.free_bytes > 0
    assert found.ram_bytes > found.available_bytes > 0
    assert found.architecture
    asked = subprocess.run(["sh", "-c", disk_command("/")], capture_output=True, text=True)
    assert read_free_bytes(asked.stdout) > 0


@pytest.mark.parametrize(
    ("kernel", "whole"),
    [
        ("6.18.44", True),
        ("6.18-rc1", True),
        ("7.0.0-android17", True),
        ("6.17.9", False),
        ("5.10.218-android13-4", False),
        ("", False),
    ],
)
def test_kernels_that_map_whole_folios_are_known(kernel: str, whole: bool) -> None:
    assert replace(read_facts(PHONE), kernel=kernel).maps_whole_folios == whole
