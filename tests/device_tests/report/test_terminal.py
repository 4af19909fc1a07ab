"""The view for terminals."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from pocketlm.device_tests.device.facts import EMULATED, Provenance
from pocketlm.device_tests.profiling.document import AnswerDifference, Report
from pocketlm.device_tests.report.terminal import print_report
from tests.device_tests.report.sample_reports import (
    failed_report,
    folios_report,
    hostile_report,
    killed_report,
    sample_report,
    wrong_report,
)


def printed(report: Report, width: int = 80) -> str:
    screen = io.StringIO()
    print_report(report, Console(file=screen, width=width, legacy_windows=False))
    return screen.getvalue()


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize(
    "report",
    [sample_report(), failed_report(), killed_report(), wrong_report(), hostile_report()],
    ids=["whole", "failed", "killed", "wrong", "hostile"],
)
def test_no_line_is_wider_than_the_terminal(report: Report, width: int) -> None:
    assert max(map(len, printed(report, width).splitlines())) <= width


def test_a_ledger_line_holds_part_sizes_and_verdict() -> None:
    text = printed(sample_report())
    assert re.search(r"packed weights +dirty +386\.9 +388\.2 +\+1\.3 +\+0\.3 % +yes", text)
    assert re.search(r"unattributed +– +2\.6", text)
    assert re.search(r"peak, at any time +1,031\.0 +1,042\.3 +\+11\.3", text)


def test_a_part_outside_the_band_is_told_without_color() -> None:
    text = printed(wrong_report())
    assert re.search(r"KV cache .* NO\b", text)
    assert "memory is NOT as predicted" in text
    assert "golden answers: DIFFER" in text
    assert "code (chat), step 7: greedy token: expected ' def' (1063)" in text


def test_why_clean_lines_are_not_judged_is_said() -> None:
    text = " ".join(printed(folios_report()).split())
    assert "memory is as predicted" in text
    assert "do not count: Linux 6.18.44 maps whole folios of files" in text
    assert "folios" not in printed(sample_report())


def test_androids_own_account_is_told_where_there_is_one() -> None:
    text = " ".join(printed(sample_report()).split())
    assert "Android counts PSS 1.02 GB, RSS 1.04 GB, swapped 2.0 MB, GPU 16.0 MB" in text
    assert "Android counts" not in printed(replace(sample_report(), android=None))


def test_memory_is_drawn_over_named_phases() -> None:
    text = printed(sample_report())
    assert re.search(r"1\.04 GB .*█", text)
    assert "loaded   |prefilled" in text


@pytest.mark.parametrize("provenance", EMULATED)
def test_an_emulated_run_shows_its_stamp_and_no_time(provenance: Provenance) -> None:
    text = printed(sample_report(provenance))
    assert "tokens/s" not in text
    assert not re.search(r"\d\s?(ms|s|seconds)\b", text)
    assert "times are emulated, not shown" in text
    assert "*** EMULATED" in text


def test_what_a_device_says_cannot_steer_the_terminal() -> None:
    screen = io.StringIO()
    print_report(
        hostile_report(), Console(file=screen, width=80, force_terminal=True, color_system=None)
    )
    text = screen.getvalue()
    # Bold is ours; a title or a color would be the device's.
    assert set(re.findall(r"\x1b[^m]*m", text)) <= {"\x1b[1m", "\x1b[2m", "\x1b[0m"}
    assert "\x07" not in text and "\u202e" not in text
    assert "[red]" in text


def test_many_differences_are_cut_and_counted() -> None:
    report = wrong_report()
    assert report.answers is not None
    many = tuple(AnswerDifference("c", i, i, "token", "a", "b") for i in range(30))
    text = printed(replace(report, answers=replace(report.answers, differences=many)))
    assert "and 20 more" in text


def test_a_terminal_without_unicode_gets_plain_characters() -> None:
    raw = io.BytesIO()
    screen = io.TextIOWrapper(raw, encoding="ascii")
    print_report(hostile_report(), Console(file=screen, width=80))
    print_report(sample_report(), Console(file=screen, width=80))
    screen.flush()
    text = raw.getvalue().decode("ascii")
    assert re.search(r"KV cache +dirty +33\.6 +32\.8 +-0\.8 +-2\.4 % +yes", text)
    assert re.search(r"1\.04 GB .*@", text)
