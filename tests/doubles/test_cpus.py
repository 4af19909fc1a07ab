"""The emulated processors."""

import pytest

from pocketlm.device_tests.errors import DeviceError
from tests.doubles.cpus import CPUS, cpu_called, cpuinfo


def test_each_class_of_kernels_has_a_processor() -> None:
    kernels = [{"asimddp", "i8mm"} & set(cpu.features) for cpu in CPUS.values()]
    assert kernels == [set(), {"asimddp"}, {"asimddp", "i8mm"}]


def test_every_core_is_listed() -> None:
    text = cpuinfo(cpu_called("cortex-a76"), 3)
    assert [line for line in text.splitlines() if line.startswith("processor")] == [
        "processor\t: 0",
        "processor\t: 1",
        "processor\t: 2",
    ]


def test_an_unknown_processor_is_answered_with_the_known_ones() -> None:
    with pytest.raises(DeviceError, match="no emulated processor 'm4'; there are 'cortex-a57'"):
        cpu_called("m4")
