"""What `pocketlm build` prints, with doubles of the stages."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pocketlm import main
from pocketlm.edge_build import memory_limit
from pocketlm.edge_build.errors import BuildError
from tests.staged_build import STAGES, StagedBuild


def pocketlm_build(staged_build: StagedBuild, *options: object) -> Result:
    """Run the command on the checkpoint of the staged build."""
    spec = staged_build.spec
    arguments = ("build", spec.checkpoint, "--out", spec.out, "--context", 64, "--chunk", 8)
    recipe = ("--recipe", spec.recipe)
    return CliRunner().invoke(main, [str(argument) for argument in (*arguments, *recipe, *options)])


def test_the_result_says_what_each_stage_took(staged_build: StagedBuild) -> None:
    document = json.loads(pocketlm_build(staged_build, "--json").stdout)
    assert [stage["name"] for stage in document["stages"]] == ["checkpoint", *STAGES, "text"]
    for stage in document["stages"]:
        assert stage["wall_s"] >= 0 and stage["peak_bytes"] > 1_000_000
        assert stage["reused"] is False


def test_the_result_says_what_an_earlier_run_had_done(staged_build: StagedBuild) -> None:
    staged_build.build_until("onnx", KeyboardInterrupt())
    result = pocketlm_build(staged_build, "--json")
    reused = {s["name"]: s["reused"] for s in json.loads(result.stdout)["stages"]}
    assert reused == {
        "checkpoint": False,
        "quantize": True,
        "executorch": True,
        "onnx": False,
        "golden": False,
        "text": False,
    }
    assert "continuing an interrupted build: quantize, executorch done before" in result.stderr
    assert "quantize: done by an earlier run" in result.stderr


def test_people_get_a_table_of_the_stages(staged_build: StagedBuild) -> None:
    staged_build.build_until("onnx", KeyboardInterrupt())
    shown = pocketlm_build(staged_build).stdout
    rows = [line for line in shown.splitlines() if "executorch" in line]
    # The peak is this process's, which has run other tests before.
    assert any("done by an earlier run" in row and ("MB" in row or "GB" in row) for row in rows)
    assert "peak memory" in shown and "wall s" in shown


def test_an_interruption_exits_with_130_and_says_how_to_continue(staged_build: StagedBuild) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    staged_build.during = {"onnx": interrupt}
    result = pocketlm_build(staged_build)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == (
        "error: interrupted; finished: executorch, quantize; run the same command again to "
        f"continue, or remove {staged_build.kept} to start over"
    )


def test_a_full_disk_exits_with_2_and_says_how_to_continue(staged_build: StagedBuild) -> None:
    def fill() -> None:
        raise OSError(28, "No space left on device")

    staged_build.during = {"onnx": fill}
    result = pocketlm_build(staged_build)
    assert result.exit_code == 2
    assert "the disk is full; free some space" in result.stderr
    assert "run the same command again to continue" in result.stderr
    assert "Traceback" not in result.output


def test_a_refusal_of_memory_exits_with_2_and_says_how_to_continue(
    staged_build: StagedBuild,
) -> None:
    def refuse() -> None:
        raise MemoryError

    staged_build.during = {"onnx": refuse}
    result = pocketlm_build(staged_build)
    assert result.exit_code == 2
    assert "onnx: the system gave no more memory" in result.stderr
    assert "run the same command again to continue" in result.stderr


def test_a_mistake_in_a_late_stage_is_shown_with_what_is_finished(
    staged_build: StagedBuild,
) -> None:
    def fail() -> None:
        raise BuildError("norm: the checkpoint holds NaN")

    staged_build.during = {"onnx": fail}
    result = pocketlm_build(staged_build)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(
        "error: norm: the checkpoint holds NaN; finished: executorch, quantize; run the same "
    )


def test_fresh_starts_over(staged_build: StagedBuild) -> None:
    staged_build.build_until("onnx", KeyboardInterrupt())
    assert pocketlm_build(staged_build, "--fresh").exit_code == 0
    assert staged_build.worked[-len(STAGES) :] == STAGES


def test_a_dry_run_prints_the_memory_of_each_stage(staged_build: StagedBuild) -> None:
    plan = json.loads(pocketlm_build(staged_build, "--dry-run", "--json").stdout)
    memory = plan["memory"]
    assert [stage["name"] for stage in memory["stages"]] == STAGES
    for stage in memory["stages"]:
        assert stage["peak_bytes"] == sum(term["size_bytes"] for term in stage["terms"])
    assert memory["peak_bytes"] == max(stage["peak_bytes"] for stage in memory["stages"])
    assert memory["available_bytes"] > 0 and memory["max_ram_bytes"] is None
    assert staged_build.worked == [] and not staged_build.out.parent.exists()


def test_people_get_the_memory_of_each_stage_term_by_term(staged_build: StagedBuild) -> None:
    shown = pocketlm_build(staged_build, "--dry-run").stdout
    assert "predicted memory:" in shown
    assert "tools of executorch" in shown and "tokenizer" in shown
    assert "in stage" in shown and "available" in shown


@pytest.mark.parametrize("options", [(), ("--dry-run",)], ids=["build", "dry run"])
def test_more_than_max_ram_exits_with_2_and_says_why(
    staged_build: StagedBuild, options: tuple[str, ...]
) -> None:
    result = pocketlm_build(staged_build, "--max-ram", "100M", *options)
    assert result.exit_code == 2
    assert "error: --max-ram 100M (105 MB): stage" in result.stderr
    assert "Traceback" not in result.output
    assert staged_build.worked == [] and not staged_build.out.parent.exists()


def test_enough_max_ram_builds(staged_build: StagedBuild) -> None:
    assert pocketlm_build(staged_build, "--max-ram", "64GiB").exit_code == 0
    assert staged_build.out.exists()


def test_a_malformed_size_is_answered_with_examples(staged_build: StagedBuild) -> None:
    result = pocketlm_build(staged_build, "--max-ram", "lots")
    assert result.exit_code == 2
    assert "'--max-ram': 'lots' is not a size; write a number with a unit" in result.stderr


def test_too_little_free_memory_is_a_warning(
    staged_build: StagedBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_limit, "available_bytes", lambda: 0)
    result = pocketlm_build(staged_build)
    assert result.exit_code == 0
    assert "warning: stage" in result.stderr and "the system may end it" in result.stderr


def test_the_command_waits_for_no_second_build(staged_build: StagedBuild, tmp_path: Path) -> None:
    refusals = []

    def build_again() -> None:
        refusals.append(pocketlm_build(staged_build))

    staged_build.during = {"golden": build_again}
    assert pocketlm_build(staged_build).exit_code == 0
    (refused,) = refusals
    assert refused.exit_code == 2 and "is building there; wait for it" in refused.stderr


def test_an_existing_bundle_is_named_with_what_replaces_it(staged_build: StagedBuild) -> None:
    assert pocketlm_build(staged_build).exit_code == 0
    before = (staged_build.out / "manifest.json").read_bytes()
    result = pocketlm_build(staged_build, "--name", "other")
    assert result.exit_code == 2
    assert "exists already; add --force to replace this bundle" in result.stderr
    assert (staged_build.out / "manifest.json").read_bytes() == before
    assert pocketlm_build(staged_build, "--name", "other", "--force").exit_code == 0
    assert json.loads((staged_build.out / "manifest.json").read_text())["name"] == "other"
    assert [path.name for path in staged_build.out.parent.iterdir()] == ["tiny"]


def test_a_failed_replacement_leaves_the_old_bundle(staged_build: StagedBuild) -> None:
    assert pocketlm_build(staged_build).exit_code == 0
    before = (staged_build.out / "manifest.json").read_bytes()

    def fail() -> None:
        raise BuildError("norm: the checkpoint holds NaN")

    staged_build.during = {"onnx": fail}
    assert pocketlm_build(staged_build, "--name", "other", "--force").exit_code == 2
    assert (staged_build.out / "manifest.json").read_bytes() == before


def test_only_a_bundle_is_replaced(staged_build: StagedBuild) -> None:
    staged_build.out.mkdir(parents=True)
    (staged_build.out / "thesis.txt").write_text("mine")
    result = pocketlm_build(staged_build, "--force")
    assert result.exit_code == 2
    assert "exists already and is no bundle; remove it or choose another" in result.stderr
    assert (staged_build.out / "thesis.txt").read_text() == "mine"


def test_a_bundle_is_no_checkpoint(staged_build: StagedBuild, tmp_path: Path) -> None:
    assert pocketlm_build(staged_build).exit_code == 0
    result = CliRunner().invoke(
        main, ["build", str(staged_build.out), "--out", str(tmp_path / "new")]
    )
    assert result.exit_code == 2
    assert f"{staged_build.out}: a bundle, built already; run it with pocketlm run" in result.stderr


def test_an_empty_name_is_refused(staged_build: StagedBuild) -> None:
    assert "--name is empty" in pocketlm_build(staged_build, "--name", " ").stderr


def test_counts_below_one_are_refused_by_their_flags(staged_build: StagedBuild) -> None:
    for flag in ("--context", "--chunk", "--golden-tokens"):
        result = pocketlm_build(staged_build, flag, "0")
        assert result.exit_code == 2
        assert f"'{flag}': 0 is not in the range x>=1" in result.stderr
