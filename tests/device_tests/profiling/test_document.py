"""The report as JSON."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.profiling.document import SCHEMA_VERSION, Report
from pocketlm.device_tests.report.comparison import compare
from pocketlm.device_tests.report.page import render_html
from tests.device_tests.report.sample_reports import (
    failed_report,
    hostile_report,
    killed_report,
    sample_report,
    wrong_report,
)

ODD = (None, 0, -1, 1, 2**62, 2**64, 1e18, 1e300, "", "x\x1b[31m\ud800", "ok", [], [None], {}, True)


@pytest.mark.parametrize(
    "report",
    [sample_report(), failed_report(), killed_report(), wrong_report(), hostile_report()],
    ids=["whole", "failed", "killed", "wrong", "hostile"],
)
def test_json_holds_all_of_a_report(report: Report) -> None:
    assert Report.from_json(report.to_json(), "report.json") == report


def test_a_newer_schema_is_refused() -> None:
    document = json.loads(sample_report().to_json())
    document["schema_version"] = SCHEMA_VERSION + 1
    with pytest.raises(DeviceError, match=r"r.json: .*schema 2; .*update pocketlm"):
        Report.from_json(json.dumps(document), "r.json")


def test_fields_of_a_later_writer_are_left_out() -> None:
    document = json.loads(sample_report().to_json())
    document["device"]["color"] = "green"
    assert Report.from_json(json.dumps(document), "r.json") == sample_report()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"verdict": "fine"}'])
def test_what_is_no_report_is_named(text: str) -> None:
    with pytest.raises(DeviceError, match=r"r\.json: this is not a report of pocketlm profile"):
        Report.from_json(text, "r.json")


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_mutated_report_is_read_or_refused(data: st.DataObject) -> None:
    document = json.loads(sample_report(samples=3).to_json())
    place = document
    while isinstance(place, dict | list) and place:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            place[key] = data.draw(st.sampled_from(ODD))
            break
        place = place[key]
    text = json.dumps(document)
    try:
        report = Report.from_json(text, "r.json")
    except DeviceError as error:
        assert str(error).startswith("r.json: ") and len(str(error)) < 500
        return
    compare(report, sample_report()).to_json()
    compare(sample_report(), report).to_json()
    render_html(report)


@pytest.mark.parametrize("number", ["1e400", "1e300", "-1e300", "9" * 30, "9" * 5000])
def test_a_number_that_no_device_counts_is_refused(number: str) -> None:
    text = sample_report().to_json().replace('"load_s": 2.86', f'"load_s": {number}')
    with pytest.raises(DeviceError, match=r"r\.json: this is not a report of pocketlm profile"):
        Report.from_json(text, "r.json")


def test_a_negative_size_is_refused() -> None:
    document = json.loads(sample_report().to_json())
    document["phases"][0]["peak_bytes"] = -1
    with pytest.raises(DeviceError, match=r"phases\[0\]\.peak_bytes: -1 bytes cannot be"):
        Report.from_json(json.dumps(document), "r.json")
