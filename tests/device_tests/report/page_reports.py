"""Reports of each kind that a page must be able to show."""

from tests.device_tests.report.sample_reports import (
    failed_report,
    hostile_report,
    killed_report,
    sample_report,
    wrong_report,
)

REPORTS = {
    "whole": sample_report(),
    "emulated": sample_report("qemu-system"),
    "failed": failed_report(),
    "killed": killed_report(),
    "wrong": wrong_report(),
    "hostile": hostile_report(),
}
