"""The report as JSON."""

import json

import pytest

from device_tests.errors import DeviceError
from device_tests.report.document import SCHEMA_VERSION, Report
from tests.device_tests.report.sample_reports import (
    failed_report,
    hostile_report,
    killed_report,
    sample_report,
    wrong_report,
)


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
    with pytest.raises(DeviceError, match=r"r\.json: no report of pocketlm profile"):
        Report.from_json(text, "r.json")
