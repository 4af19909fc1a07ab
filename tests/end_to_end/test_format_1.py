"""A bundle of format 1 is opened, run, verified and inspected."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pocketlm.edge_build import backends
from pocketlm.edge_build.build import build
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.runtime_py import open_bundle, open_session
from pocketlm.runtime_py.commands.inspect_bundle import inspect_bundle
from pocketlm.runtime_py.verification import verify
from tests.conftest import PICO, made_once
from tests.older_bundles import in_format_1


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose artifacts give one row of logits, as they did then."""
    spec = BuildSpec(
        PICO, Path("pico"), recipe="int4-g32", chunk=32, context_length=512, logits_rows=1
    )
    made = made_once(spec, lambda folder: build(replace(spec, out=folder / "pico")))
    folder = in_format_1(made / "pico", tmp_path_factory.mktemp("older") / "pico")
    assert json.loads((folder / "manifest.json").read_text())["format_version"] == 1
    return folder


@pytest.mark.parametrize("backend", backends.names())
def test_it_is_verified(older: Path, backend: str) -> None:
    result = verify(open_bundle(older), backend)
    assert result.passed, result


@pytest.mark.parametrize("backend", backends.names())
def test_it_runs_as_in_format_2(older: Path, pico_bundle: Path, backend: str) -> None:
    rows = []
    for folder in (older, pico_bundle):
        with open_session(folder, backend=backend) as session:
            rows.append(session.prefill([1, 2, 3]))
    np.testing.assert_array_equal(rows[0], rows[1])


def test_it_is_inspected(older: Path, pico_bundle: Path) -> None:
    shown = []
    for folder in (older, pico_bundle):
        result = CliRunner().invoke(inspect_bundle, [str(folder), "--json"])
        assert result.exit_code == 0, result.output
        shown.append(json.loads(result.output))
    for part in (part for one in shown for part in one["weight_parts"]):
        # Scales are searched more closely now.
        lowest = part.pop("lowest_sqnr_db")
        assert lowest is None or lowest > 20
    for name in ("weight_parts", "cache_parts", "unquantized"):
        assert shown[0][name] == shown[1][name]
