"""pocketlm jobs, on this machine."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pocketlm import main
from pocketlm.device_tests.device.targets import open_target
from pocketlm.device_tests.job.lifecycle import job_folder, run_job
from pocketlm.device_tests.job.values import JobSpec
from tests.device_tests.broken_link import BROKEN, BrokenLink, broken_target


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POCKETLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["jobs", *map(str, arguments), "--on", "host"])


def document(*arguments: object) -> Any:
    return json.loads(invoke(*arguments, "--json").stdout)


def lost_job(cache: Path) -> str:
    """Start a job that waits for a file, and lose its connection; return its id."""
    link = BrokenLink()
    target = broken_target(cache / "host", link)
    (cache.parent / "run.sh").write_text("until [ -f go ]; do sleep 0.05; done; echo done")
    spec = JobSpec(("sh", "run.sh"), {"run.sh": cache.parent / "run.sh"}, timeout_s=60)

    def fault(kind: str, what: str) -> Any:
        return BROKEN if any(cache.rglob("job.runner")) else None

    link.fault = fault
    result = run_job(target, spec, cache.parent / "out", reconnect_s=0)
    assert result.verdict == "lost_device"
    assert f"pocketlm jobs collect {result.nonce} --on broken" in result.reason
    return result.nonce


def test_nothing_lies_on_a_new_device(cache: Path) -> None:
    found = document()
    assert (found["jobs"], found["folders"]) == ([], [])
    assert invoke().stdout == f"host: nothing lies in {cache}/host\n"


def test_a_lost_job_is_listed_and_collected(cache: Path) -> None:
    job = lost_job(cache)
    (found,) = document()["jobs"]
    assert (found["id"], found["state"]) == (job, "running")
    Path(job_folder(open_target("host"), job), "go").touch()
    collected = document("collect", job)
    assert (collected["verdict"], collected["id"]) == ("ok", job)
    assert Path(f"job-{job}", "job.out").read_text() == "done\n"
    assert document()["jobs"] == []


def test_a_running_job_is_stopped_by_name_and_keeps_the_rest_until_then(cache: Path) -> None:
    job = lost_job(cache)
    (cache / "host" / "bundles" / "abc").mkdir(parents=True)
    (cache / "host" / "bundles" / "abc" / "file").write_bytes(bytes(5000))
    refused = invoke("remove", "all")
    assert refused.exit_code == 2
    assert f"still running; wait for its end, or stop it: pocketlm jobs remove {job}" in (
        refused.stderr.replace("\n", " ")
    )
    assert invoke("remove", job).exit_code == 0
    assert [folder["name"] for folder in document()["folders"]] == ["bundles/abc"]
    assert "1 bundles and runners" in invoke("remove", "all").stdout
    assert list((cache / "host").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("collect",), "jobs collect: name the job's ID"),
        (("remove",), "jobs remove: name the job's ID"),
        (("list", "abc"), "list takes no ID"),
        (("collect", "../.."), "there is no job '../..'; jobs there: none"),
        (("remove", "abc"), "there is no job 'abc'; jobs there: none"),
        (("remove", "abc", "--out", "x"), "only collect writes files"),
    ],
)
def test_wrong_input_exits_with_2(cache: Path, arguments: tuple[str, ...], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")
