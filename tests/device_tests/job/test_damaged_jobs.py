"""What lies on a device may be damaged, or another's: a refusal, and nothing is left here."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pocketlm import main
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.job.lifecycle import collect_job
from pocketlm.device_tests.job.script import AFTER, ERRORS, OUTPUT, SPEC
from tests.mutations.job_device import FILES, JOB, LISTING, STATE, JobDevice, job_device

DIGITS = "9" * 5000


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "device"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def collect(files: Path) -> Any:
    target: Any = JobDevice(files)
    with job_device(files):
        return collect_job(target, JOB, files.parent / "new" / "out")


def test_a_sound_job_is_collected(files: Path) -> None:
    assert collect(files).verdict == "ok"
    assert (files.parent / "new" / "out" / OUTPUT).read_text() == FILES[OUTPUT]


@pytest.mark.parametrize(
    "change",
    [
        {"fetch": ["../escaped"]},
        {"fetch": ["/escaped"]},
        {"fetch": [""]},
        {"fetch": ["job.out"]},
        {"timeout_s": 0},
        {"nonce": "another"},
    ],
)
def test_a_damaged_record_is_refused_and_leaves_nothing(
    files: Path, change: dict[str, object]
) -> None:
    (files / SPEC).write_text(json.dumps({**json.loads(FILES[SPEC]), **change}))
    with pytest.raises(DeviceError, match=rf"or damaged \(.*remove it: pocketlm jobs remove {JOB}"):
        collect(files)
    assert not (files.parent / "new").exists()


def test_the_end_of_another_job_is_refused(files: Path) -> None:
    (files / STATE).write_text(FILES[STATE].replace(f"{JOB} 0 0", "another 0 0"))
    with pytest.raises(DeviceError, match=f"{JOB} holds the end of another, another; remove it"):
        collect(files)
    assert not (files.parent / "new").exists()


def test_a_job_that_is_gone_is_no_success_and_leaves_nothing(files: Path) -> None:
    (files / STATE).write_text("\n@@ there\n\n@@ output\n")
    out = files.parent / "new" / "out"
    with job_device(files):
        shown = CliRunner().invoke(main, ["jobs", "collect", JOB, "--out", str(out), "--on", "adb"])
    assert shown.exit_code == 3
    assert shown.stderr.endswith("\nerror: double: the job's folder was removed while it ran\n")
    assert not out.parent.exists()


def test_files_that_nobody_asked_for_are_not_fetched(files: Path) -> None:
    (files / LISTING).write_text(f"../escaped\n/escaped\n{'a' * 5000}\n{OUTPUT}\n")
    (files / "escaped").write_text("x")
    assert [*collect(files).files] == [OUTPUT]
    assert [path.name for path in (files.parent / "new").iterdir()] == ["out"]


def test_a_file_that_cannot_be_brought_leaves_none(files: Path) -> None:
    (files / ERRORS).unlink()
    with pytest.raises(DeviceError, match=f"there is no /data/pocketlm/jobs/{JOB}/{ERRORS}"):
        collect(files)
    assert not (files.parent / "new").exists()


def test_what_stood_in_the_folder_stays(files: Path) -> None:
    (files / ERRORS).unlink()
    (files.parent / "new" / "out").mkdir(parents=True)
    with pytest.raises(DeviceError):
        collect(files)
    assert [*(files.parent / "new" / "out").iterdir()] == []


@pytest.mark.parametrize("number", [DIGITS, "\u00b2", "-" + DIGITS, "9" * 400])
def test_numbers_that_are_none_are_not_known(files: Path, number: str) -> None:
    lines = [
        " ".join(number if w.isdigit() else w for w in line.split())
        for line in FILES[AFTER].splitlines()
    ]
    (files / AFTER).write_text("\n".join(lines))
    found = collect(files)
    assert (found.verdict, found.thermal_after.status) == ("ok", None)
    assert found.counters_after.oom_kills is None
