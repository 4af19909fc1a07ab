"""How parts of memory are stacked."""

from dataclasses import replace

from pocketlm.device_tests.memory.values import PartBytes
from pocketlm.device_tests.report.layers import COLORS, REST, stack
from tests.device_tests.report.sample_reports import MB, failed_report, sample_report


def test_layers_add_up_to_what_is_resident() -> None:
    report = sample_report()
    for i, phase in enumerate(report.phases):
        assert sum(layer.sizes_bytes[i] for layer in stack(report)) == phase.resident_bytes


def test_dirty_parts_lie_below_clean_ones() -> None:
    kinds = [layer.kind for layer in stack(sample_report())]
    assert kinds == sorted(kinds, key=lambda kind: kind != "dirty")


def test_parts_too_thin_to_see_are_put_together() -> None:
    small = [layer for layer in stack(sample_report()) if len(layer.parts) > 1]
    assert [(layer.name, layer.kind) for layer in small] == [
        ("3 small parts", "dirty"),
        ("2 small parts", "clean"),
    ]
    assert all(layer.color == REST for layer in small)


def test_many_parts_have_colors_that_exist() -> None:
    report = sample_report()
    parts = tuple(PartBytes(f"part {i}", "dirty", 50 * MB) for i in range(20))
    last = replace(report.phases[-1], parts=parts)
    layers = stack(replace(report, phases=(last,)))
    assert len(layers) == 20
    assert all(0 <= layer.color < COLORS for layer in layers)


def test_nothing_measured_is_no_layer() -> None:
    assert stack(failed_report()) == ()
