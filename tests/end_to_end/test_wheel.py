"""A wheel built from the tree installs one package, which builds and runs the embedded model."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of a copy of the tracked files: a build leaves folders behind."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    names = [name for name in listed.stdout.split(b"\0") if name]
    subprocess.run(
        ["tar", "--create", "--file", source / "tree.tar", "--null", "--files-from", "-"],
        cwd=ROOT, input=b"\0".join(names), check=True,
    )  # fmt: skip
    subprocess.run(["tar", "--extract", "--file", "tree.tar"], cwd=source, check=True)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", made, source], check=True
    )
    (found,) = made.glob("*.whl")
    return found


def test_it_installs_one_package_with_its_data(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"pocketlm"}
    inside = {name.removeprefix("pocketlm/") for name in names}
    tracked = subprocess.run(
        ["git", "ls-files", "models", "edge_build", "runtime_py", "device_tests", "evaluation",
         "advisor"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert set(tracked) - inside == set()
    assert {"py.typed", "api.py", "cli.py", "__main__.py"} <= inside


def test_it_builds_and_runs_the_embedded_model(wheel: Path, tmp_path: Path) -> None:
    installed, work = tmp_path / "installed", tmp_path / "work"
    work.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    # This environment's libraries without the clone; -S below leaves editable installs out.
    others = [path for path in sys.path if Path(path).is_dir() and Path(path).resolve() != ROOT]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(installed), *others))}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-S", "-m", "pocketlm", *arguments],
            cwd=work, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(
        "build", "pico", "--out", "bundle", "--backend", "onnx", "-c", "256", "--golden-tokens", "8"
    )
    said = run("run", "bundle", "--temp", "0", "-n", "16", "-p", "Which module has Counter?")
    assert "The class Counter is in the module collections" in said
    where = subprocess.run(
        [sys.executable, "-S", "-c", "import pocketlm.models as m; print(m.__file__)"],
        cwd=work, env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert Path(where).is_relative_to(installed)
