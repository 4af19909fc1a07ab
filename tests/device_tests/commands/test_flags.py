"""What a command shows while it waits for a device."""

import json

import pytest

from pocketlm.device_tests.commands.flags import shown_progress

PHASE = {
    "event": "phase",
    "phase": "loaded",
    "clock_s": 1.0,
    "peak_bytes": 17_900_000,
    "peak_is_of_phase": True,
    "regions_are_counted": True,
    "regions": [],
    "mappings": [],
}


def test_steps_and_phases_are_told_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress() as told:
        told.step("looking at [bold]host[/bold]")
        told.sending(5, 10, "[/model]")
        told.line(json.dumps(PHASE))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[:2] == [
        # What a device says is no markup.
        "looking at [bold]host[/bold]",
        "  loaded: at most 17.9 MB resident",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Killed",
        "[1]",
        '{"event":"run","tokens":1}',
        '{"event":"phase","phase":"load',
        json.dumps(PHASE | {"peak_bytes": "17"}),
        json.dumps(PHASE | {"peak_bytes": None}),
        json.dumps(PHASE | {"peak_bytes": [1]}),
        "[" * 100_000,
    ],
    ids=lambda line: line[:30],
)
def test_other_lines_are_not_shown(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress() as told:
        told.line(line)
    assert capsys.readouterr().err.strip() == ""
