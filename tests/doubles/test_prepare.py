"""What is built once, and when it is built anew; nothing is downloaded here."""

import os
import time
from pathlib import Path

import pytest

from pocketlm.device_tests.errors import DeviceError
from tests.doubles import images, packages, prepare


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and stages that take no time."""
    monkeypatch.setenv("POCKETLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(packages, "download", lambda out: (out / "a.deb").touch())
    monkeypatch.setattr(packages, "unpack", lambda debs, out: None)
    monkeypatch.setattr(prepare, "_build", lambda unpacked, out, tell: (out / "kernel").touch())
    return tmp_path / "cache" / "doubles"


def test_what_is_not_built_is_an_error_with_the_command() -> None:
    with pytest.raises(DeviceError, match=r"not built.*python -m tests\.doubles\.prepare"):
        prepare.prepared()


def test_it_is_built_once() -> None:
    lines: list[str] = []
    done = prepare.prepare(lines.append)
    assert lines == ["downloading 65 MB of Debian packages", "unpacking"]
    assert prepare.prepared() == done
    assert prepare.prepare(lines.append) == done
    assert len(lines) == 2
    assert done.kernel.exists()


def test_another_recipe_is_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = prepare.prepare(lambda text: None)
    (tmp_path / "guest").mkdir()
    (tmp_path / "guest" / "init").write_text("other")
    monkeypatch.setattr(images, "GUEST", tmp_path / "guest")
    lines: list[str] = []
    assert prepare.prepare(lines.append).kernel != before.kernel
    assert lines == ["unpacking"]


def test_old_builds_go_and_young_ones_stay_for_who_runs_them(cache: Path) -> None:
    for name, age_s in (("built-old", 3 * 24 * 3600), ("built-young", 60)):
        (cache / name).mkdir(parents=True)
        os.utime(cache / name, (time.time() - age_s,) * 2)
    prepare.prepare(lambda text: None)
    assert not (cache / "built-old").exists()
    assert (cache / "built-young").exists()


def test_the_command_tells_the_folder_or_the_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare.main() == 0
    said = capsys.readouterr()
    assert Path(said.out.strip()).is_dir()
    assert "unpacking ..." in said.err

    def fail(tell: object) -> None:
        raise DeviceError("no mirror")

    monkeypatch.setattr(prepare, "prepare", fail)
    assert prepare.main() == 2
    assert capsys.readouterr().err == "error: no mirror\n"
