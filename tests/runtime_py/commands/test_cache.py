"""pocketlm cache: what it lists, what it removes, what it refuses."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pocketlm.runtime_py.commands.cache import KINDS
from pocketlm.runtime_py.commands.cache import cache as command
from pocketlm.runtime_py.errors import RunError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with two kinds of things, and jobs, which are none."""
    monkeypatch.delenv("POCKETLM_LOWERED_CACHE")
    monkeypatch.setenv("POCKETLM_CACHE", str(tmp_path))
    for name in ("lowered/a.lowered", "runners/x/runner", "runners/x/sampler", "host/job/out"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_it_lists_what_is_there_with_sizes(folder: Path) -> None:
    document = json.loads(run("list", "--json").stdout)
    assert [(e["name"], e["files"], e["size_bytes"]) for e in document["held"]] == [
        ("lowered", 1, 1000),
        ("runners", 2, 2000),
    ]
    assert run().stdout == run("list").stdout
    assert "runners" in run().stdout and "0.0 MB in 2 files" in run().stdout


def test_one_kind_is_removed_alone(folder: Path) -> None:
    assert "removed lowered" in run("remove", "lowered").stdout
    assert sorted(path.name for path in folder.iterdir()) == ["host", "runners"]


def test_all_leaves_jobs(folder: Path) -> None:
    run("remove", "all")
    assert [path.name for path in folder.iterdir()] == ["host"]
    assert run().stdout == f"nothing in {folder}\n"


def test_of_a_link_only_the_link_goes(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "file").touch()
    (folder / "tests").symlink_to(elsewhere)
    run("remove", "tests")
    assert (elsewhere / "file").exists() and not (folder / "tests").exists()


def test_a_removal_without_a_name_or_with_an_unknown_one_is_refused(folder: Path) -> None:
    for arguments in (("remove",), ("remove", "host"), ("remove", "../x")):
        with pytest.raises(RunError, match=f"name what to remove, one of {', '.join(KINDS)}"):
            run(*arguments)
    assert len(list(folder.iterdir())) == 3


def test_a_list_takes_no_name(folder: Path) -> None:
    with pytest.raises(RunError, match="did you mean cache remove lowered"):
        run("list", "lowered")


def test_what_cannot_be_removed_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("shutil.rmtree", fail)
    with pytest.raises(RunError, match=r"cannot be removed \(Permission denied"):
        run("remove", "lowered")
