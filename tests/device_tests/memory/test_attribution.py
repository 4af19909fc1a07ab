"""Mappings and regions of a phase → parts of memory."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pocketlm.device_tests.memory.attribution import LOADED, KnownFiles, attribute
from pocketlm.device_tests.memory.events import Mapping, PhaseMark, Region
from pocketlm.device_tests.memory.values import PartBytes
from pocketlm.runtime_py.memory_parts import PARTS

FILES = KnownFiles.of(
    artifact=["executorch/model.pte"],
    packed=["9f2c.packed-weights.bin"],
    runtime=["runner", "ld-linux-aarch64.so.1"],
)
KB = 1024


def file(path: str, resident_kb: int, anonymous_kb: int = 0) -> Mapping:
    return Mapping(path, resident_kb * KB, anonymous_kb * KB, anonymous_kb * KB, 0)


def memory(resident_kb: int, path: str = "[anonymous]") -> Mapping:
    return file(path, resident_kb, resident_kb)


def region(part: str, resident_kb: int) -> Region:
    return Region(part, resident_kb * KB, resident_kb * KB, 0)


def mark(phase: str, mappings: list[Mapping], regions: tuple[Region, ...] = ()) -> PhaseMark:
    return PhaseMark(phase, 1.0, 0, True, True, regions, tuple(mappings))


def sizes(parts: tuple[PartBytes, ...]) -> dict[tuple[str, str], int]:
    assert len({(part.part, part.kind) for part in parts}) == len(parts)
    return {(part.part, part.kind): part.resident_bytes // KB for part in parts}


STARTED = mark("started", [memory(100), file("/data/runner", 40, 8), memory(60, "[heap]")])
LOADED_MARK = mark(
    LOADED,
    [
        memory(1000),
        memory(300, "[heap]"),
        memory(20, "[stack]"),
        file("/data/b/model.pte", 500),
        file("/data/libexecutorch.so", 200, 30),
        file("/data/runner", 40, 8),
    ],
    (region("kv-global", 12), region("activations", 50)),
)
DECODED = mark(
    "decoded",
    [
        memory(1500),
        memory(320, "[heap]"),
        file("/data/b/model.pte", 650),
        file("/data/libexecutorch.so", 220, 30),
    ],
    (
        region("kv-global", 100),
        region("kv-global", 20),
        region("kv-ring", 40),
        region("activations", 50),
        region("logits", 16),
    ),
)


def test_before_loading_large_blocks_are_the_runtimes_own() -> None:
    (started, *_) = attribute([STARTED, LOADED_MARK], FILES)
    # Blocks of 100, the heap of 60, and 8 that the runner changed of its own file.
    assert sizes(started) == {("runtime memory", "dirty"): 168, ("runtime code", "clean"): 32}


def test_what_is_there_after_loading_is_weights() -> None:
    (_, loaded) = attribute([STARTED, LOADED_MARK], FILES)
    assert sizes(loaded) == {
        ("weights, mapped", "clean"): 500,
        ("weights, packed", "dirty"): 1000 - 12 - 50,
        ("KV cache, global", "dirty"): 12,
        ("activations", "dirty"): 50,
        ("runtime memory", "dirty"): 300 + 20 + 30 + 8,
        ("runtime code", "clean"): 170 + 32,
    }


def test_what_a_run_adds_is_activations_and_embedding_rows() -> None:
    (*_, decoded) = attribute([STARTED, LOADED_MARK, DECODED], FILES)
    blocks = 1500 - (100 + 20 + 40 + 50 + 16)
    assert sizes(decoded) == {
        ("weights, mapped", "clean"): 500,
        ("weights, packed", "dirty"): 938,
        ("embedding rows", "clean"): 150,
        ("KV cache, global", "dirty"): 120,
        ("KV cache, rings", "dirty"): 40,
        ("activations", "dirty"): 50 + blocks - 938,
        ("logits", "dirty"): 16,
        ("runtime memory", "dirty"): 350,
        ("runtime code", "clean"): 190,
    }


def test_weights_that_were_dropped_are_no_activations() -> None:
    fewer = replace(DECODED, mappings=(memory(700), file("/data/b/model.pte", 100)), regions=())
    (_, _, found) = attribute([STARTED, LOADED_MARK, fewer], FILES)
    assert sizes(found) == {("weights, mapped", "clean"): 100, ("weights, packed", "dirty"): 700}


def test_packed_weights_in_a_file_are_clean() -> None:
    packed = file("/data/runners/1a/9f2c.packed-weights.bin", 400)
    (loaded,) = attribute([mark(LOADED, [memory(10), packed])], FILES)
    assert sizes(loaded) == {
        ("weights, packed", "dirty"): 10,
        ("weights, packed", "clean"): 400,
    }


def test_a_file_that_was_removed_keeps_its_meaning() -> None:
    (loaded,) = attribute([mark(LOADED, [file("/data/b/model.pte (deleted)", 7)])], FILES)
    assert sizes(loaded) == {("weights, mapped", "clean"): 7}


def test_strange_files_and_regions_are_not_attributed() -> None:
    strange = [file("/dev/ashmem", 9, 4), file("[anonymous]", 30, 24)]
    (loaded,) = attribute([mark(LOADED, strange, (region("scratch", 5),))], FILES)
    # All of the strange file, what is shared without a file, and the region nobody named.
    assert sizes(loaded) == {
        ("unattributed", "dirty"): 9 + 6 + 5,
        ("weights, packed", "dirty"): 24 - 5,
    }


def test_small_regions_lie_in_the_heap() -> None:
    phase = mark(LOADED, [memory(40), memory(60, "[heap]")], (region("logits", 48),))
    (loaded,) = attribute([phase], FILES)
    assert sizes(loaded) == {("logits", "dirty"): 48, ("runtime memory", "dirty"): 52}


def test_regions_that_no_page_can_hold_are_cut() -> None:
    phase = mark(LOADED, [memory(40)], (region("kv-ring", 30), region("kv-global", 30)))
    (loaded,) = attribute([phase], FILES)
    assert sizes(loaded) == {("KV cache, rings", "dirty"): 30, ("KV cache, global", "dirty"): 10}


def test_a_run_that_never_loaded_has_parts_too() -> None:
    (started,) = attribute([STARTED], FILES)
    assert sum(part.resident_bytes for part in started) == STARTED.resident_bytes
    assert attribute([], FILES) == []


PATHS = ("[anonymous]", "[heap]", "[stack]", "model.pte", "9f2c.packed-weights.bin", "libc.so.6",
         "runner", "/dev/zero (deleted)", "")  # fmt: skip
SIZE = st.integers(0, 2**40)


@st.composite
def mappings(draw: st.DrawFn) -> Mapping:
    resident = draw(SIZE)
    anonymous = draw(st.integers(0, resident))
    return Mapping(draw(st.sampled_from(PATHS)), resident, anonymous, anonymous, draw(SIZE))


REGIONS = st.builds(
    Region,
    st.sampled_from(["kv-ring", "kv-global", "logits", "activations", "?"]),
    SIZE,
    SIZE,
    SIZE,
)
MARKS = st.builds(
    PhaseMark,
    st.sampled_from(["started", LOADED, "prefilled"]),
    st.just(1.0),
    SIZE,
    st.booleans(),
    st.booleans(),
    st.lists(REGIONS, max_size=4).map(tuple),
    st.lists(mappings(), max_size=6).map(tuple),
)


@given(st.lists(MARKS, max_size=4))
def test_parts_add_up_to_what_is_resident_whatever_is_mapped(phases: list[PhaseMark]) -> None:
    found = attribute(phases, FILES)
    for phase, parts in zip(phases, found, strict=True):
        assert sum(part.resident_bytes for part in parts) == phase.resident_bytes
        assert all(part.resident_bytes > 0 for part in parts)
        assert {part.part for part in parts} <= set(PARTS)
