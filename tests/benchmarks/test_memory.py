"""Resident memory split into anonymous and file."""

from benchmarks.memory import ResidentMemory, parse_smaps_rollup

ROLLUP = """\
55d0c0a00000-7ffd2a3f4000 ---p 00000000 00:00 0                          [rollup]
Rss:               10000 kB
Pss:                9000 kB
Pss_Anon:           3900 kB
Shared_Clean:       5500 kB
Private_Dirty:      4000 kB
Anonymous:          4000 kB
AnonHugePages:         0 kB
"""


def test_what_is_not_anonymous_is_file() -> None:
    found = parse_smaps_rollup(ROLLUP)
    assert found == ResidentMemory(anonymous_bytes=4000 * 1024, file_bytes=6000 * 1024)
    assert found.resident_bytes == 10000 * 1024
