"""pocketlm advise: what it asks for, keeps, prints and refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

import pocketlm
from pocketlm.advisor.record import Record
from pocketlm.advisor.task import Task
from pocketlm.cli import main
from pocketlm.runtime_py.errors import RunError
from tests.advisor.conftest import TWO, Asked, MeasuringDouble


def document(result: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_closest_that_fits_is_named_with_its_command(
    asked: Asked, measuring: MeasuringDouble
) -> None:
    shown = asked.run(*TWO, "--ram", "1GB").stdout
    assert measuring.done == ["int4-g32 on onnx", "int8-channel on onnx"]
    assert "take int8-channel on onnx" in shown
    assert "int4-g32 on onnx: further away than int8-channel on onnx: KL 0.2000" in shown
    assert f"pocketlm build {asked.checkpoint} --out" in shown
    assert "--backend onnx --recipe int8-channel" in shown
    assert f"built already: {asked.out}/bundles/int8-channel-onnx-" in shown
    assert "a processor, 2 threads" in shown


def test_the_document_has_every_figure(asked: Asked, measuring: MeasuringDouble) -> None:
    found = document(asked.run(*TWO, "--json"))
    assert found["chosen"] == "int8-channel on onnx"
    assert found["tokens"] == 40
    assert {one["status"] for one in found["candidates"]} == {"chosen", "lost"}
    (first, second) = found["candidates"]
    assert first["memory"]["peak_bytes"] < second["memory"]["peak_bytes"]
    assert first["record"]["evaluation"]["kl_nats"]["mean"] == 0.2
    assert "no limit was given" in found["notes"][0]


def test_by_default_every_backend_and_candidate_is_measured(
    asked: Asked, measuring: MeasuringDouble
) -> None:
    found = document(asked.run("--tokens", 40, "--json"))
    built = {one["name"] for one in found["candidates"] if one["record"]}
    assert built == set(measuring.done)
    assert {one["backend"] for one in found["candidates"]} == {"executorch", "onnx"}
    # Random weights are on no grid.
    assert not any("checkpoint-grid" in name for name in built)
    assert {"int4-g32+gptq on onnx", "int8-channel on executorch"} <= built
    # Rows of 64 do not divide by 128.
    unbuilt = {one["name"]: one["reason"] for one in found["candidates"] if not one["record"]}
    assert set(unbuilt) == {"int4-g128+gptq on executorch", "int4-g128+gptq on onnx"}
    assert "group" in unbuilt["int4-g128+gptq on onnx"]


def test_what_does_not_fit_is_not_built(asked: Asked, measuring: MeasuringDouble) -> None:
    sizes = {
        one["name"]: one["memory"]["peak_bytes"]
        for one in document(asked.run(*TWO, "--json"))["candidates"]
    }
    measuring.done.clear()
    between = sum(sizes.values()) // 2 / 1000 * 1.05
    found = document(asked.run(*TWO, "--fresh", "--json", "--ram", f"{between:.3f}KB"))
    assert measuring.done == ["int4-g32 on onnx"]
    assert found["chosen"] == "int4-g32 on onnx"
    (large,) = [one for one in found["candidates"] if one["status"] == "does not fit"]
    assert large["name"] == "int8-channel on onnx"
    assert large["reason"].startswith("needs ") and " of " in large["reason"]


def test_a_device_gives_the_limit(asked: Asked, measuring: MeasuringDouble) -> None:
    found = document(asked.run(*TWO, "--device", "phone-4gb", "--json"))
    assert "that fit" in found["rule"]


def test_nothing_agrees_enough(asked: Asked, measuring: MeasuringDouble) -> None:
    result = asked.run(*TWO, "--least-agreement", 0.99, code=1)
    assert "int4-g32 on onnx: agreement 70.0 % is under 99.0 %" in result.stdout
    assert (
        "no candidate agrees enough; the nearest is int8-channel on onnx with 95.0 %; give "
        "--least-agreement 0.95, or closer --candidates"
    ) in result.stdout
    asked.run(*TWO, "--least-agreement", 0.95)


def test_the_same_command_measures_nothing_again(asked: Asked, measuring: MeasuringDouble) -> None:
    first = asked.run(*TWO, "--json").stdout
    again = asked.run(*TWO, "--json")
    assert "2 of 2 candidates were measured by an earlier run" in again.stderr
    assert len(measuring.done) == 2 and again.stdout == first
    # Another limit is another choice of the same figures.
    asked.run(*TWO, "--least-agreement", 0.5)
    assert len(measuring.done) == 2
    asked.run(*TWO, "--fresh")
    assert len(measuring.done) == 4


@pytest.mark.parametrize("change", [("--tokens", 30), ("--context", 64), ("--threads", 1)])
def test_another_question_measures_again(
    asked: Asked, measuring: MeasuringDouble, change: tuple[object, ...]
) -> None:
    asked.run(*TWO)
    asked.run(*TWO, *change)
    assert len(measuring.done) == 4


def test_another_text_measures_again(asked: Asked, measuring: MeasuringDouble) -> None:
    asked.run(*TWO)
    asked.text.write_text("A text of another kind, with other words in it. " * 20)
    asked.run(*TWO)
    assert len(measuring.done) == 4


def test_an_interrupted_run_goes_on(asked: Asked, measuring: MeasuringDouble) -> None:
    def interrupt(task: Task) -> None:
        if task.candidate.recipe == "int8-channel":
            raise KeyboardInterrupt

    measuring.before = interrupt
    said = asked.run(*TWO, code=130).stderr
    assert "interrupted; what is measured is kept; run the same command again to go on" in said
    measuring.before = lambda task: None
    assert "1 of 2 candidates were measured" in asked.run(*TWO).stderr
    assert measuring.done == ["int4-g32 on onnx", "int8-channel on onnx"]


def test_a_damaged_record_is_measured_again(asked: Asked, measuring: MeasuringDouble) -> None:
    asked.run(*TWO)
    for number, record in enumerate(sorted((asked.out / "measured").iterdir())):
        text = record.read_text()
        record.write_text(text[: len(text) // 2] if number else text.replace('"mean"', '"m"'))
    asked.run(*TWO)
    assert len(measuring.done) == 4


def test_the_plan_and_records_are_whole_files(asked: Asked, measuring: MeasuringDouble) -> None:
    asked.run(*TWO)
    plan = json.loads((asked.out / "advice.json").read_text())
    assert [one["name"] for one in plan["candidates"]] == measuring.done
    for record in (asked.out / "measured").iterdir():
        assert Record.from_json(record.read_text()).key == record.stem
    assert {path.name for path in asked.out.iterdir()} == {"advice.json", "measured", ".lock"}


def test_without_out_the_users_cache_is_used(
    asked: Asked, measuring: MeasuringDouble, tmp_path: Path
) -> None:
    found = pocketlm.advise(
        asked.checkpoint, asked.text, backends=["onnx"], candidates=["int4-g32"], tokens=40
    )
    assert found.chosen is not None and found.chosen.name == "int4-g32 on onnx"
    (made,) = (tmp_path / "cache" / "advice").iterdir()
    assert made.name.startswith("tiny-gemma3_text-")


def test_the_command_calibrates_where_the_candidate_does(
    asked: Asked, measuring: MeasuringDouble, tmp_path: Path
) -> None:
    book = tmp_path / "book.txt"
    book.write_text("Another text, to calibrate on, of some length. " * 100)
    names = ("--backend", "onnx", "--candidates", "int4-g32+gptq", "--tokens", 40)
    shown = asked.run(*names, "--calibrate", book, "--context", 64).stdout
    assert f"--recipe int4-g32 --method gptq --calibrate {book} --context 64" in shown


def test_the_page_is_written(asked: Asked, measuring: MeasuringDouble, tmp_path: Path) -> None:
    asked.run(*TWO, "--html", tmp_path / "page.html")
    assert "take int8-channel on onnx" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the text is empty; there is nothing to predict"),
        (b"word", "so no ring buffer wraps; give a longer text"),
        (b"\x89PNG\x00\x00", "not text in UTF-8"),
        ("Ein längerer Text. ".encode("latin-1") * 30, "not text in UTF-8 (byte 5)"),
        (b"zero\x00byte" * 30, "holds NUL characters"),
    ],
)
def test_a_text_that_is_none_is_refused(asked: Asked, content: bytes, message: str) -> None:
    asked.text.write_bytes(content)
    assert message in asked.error("--backend", "onnx")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--candidates", "int4-g33"), "int4-g33: unknown; did you mean int4-g32?"),
        (("--candidates", "int4-g128"), "group"),
        (("--candidates", "checkpoint-grid"), "on no grid"),
        (("--backend", "nix"), "--backend nix: unknown"),
        (("--ram", "much"), "'much' is not a size"),
        (("--device", "phone-5gb"), "there is no such profile (did you mean phone-8gb?)"),
        (("--context", "4096"), "--context 4096"),
        (("--html", "nowhere/page.html"), "the folder does not exist; make it first"),
        (("--least-agreement", "75"), "75.0 is not in the range 0<=x<=1"),
    ],
)
def test_a_wrong_option_is_refused(asked: Asked, arguments: tuple[str, ...], message: str) -> None:
    assert message in asked.error(*arguments)


def test_memory_that_nothing_fits_says_what_the_smallest_needs(asked: Asked) -> None:
    said = asked.error(*TWO, "--ram", "1MB")
    assert "--ram: no candidate fits; the smallest, int4-g32 on onnx, needs " in said
    assert " of 1.0 MB; give more memory, a shorter --context, or smaller --candidates" in said


def test_a_bundle_is_no_checkpoint(asked: Asked, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    said = Asked(bundle, asked.text, asked.out).error("--backend", "onnx")
    assert "a bundle, built already; give the checkpoint that it was built from" in said


def test_the_text_to_calibrate_on_is_another(asked: Asked) -> None:
    said = asked.error(*TWO, "--calibrate", asked.text)
    assert "the same text as --text" in said and "give two texts of one kind" in said


def test_a_text_that_nothing_is_calibrated_on_is_refused(asked: Asked, tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text("Another text. " * 100)
    assert "no candidate needs data; add one such as int4-g32+gptq" in asked.error(
        *TWO, "--calibrate", book
    )


def test_a_folder_of_somebody_else_is_left_alone(asked: Asked) -> None:
    asked.out.mkdir()
    mine = asked.out / "mine"
    mine.write_text("mine")
    said = asked.run(*TWO, code=2).stderr
    assert "holds something else than candidates; give another folder, or one to make" in said
    assert [path.name for path in asked.out.iterdir()] == ["mine"]
    mine.unlink()
    asked.out.rmdir()
    asked.out.write_text("a file")
    assert "a file; give a folder, or one to make" in asked.run(*TWO, code=2).stderr
    assert asked.out.read_text() == "a file"


def test_two_at_once_in_one_folder_are_refused(asked: Asked, measuring: MeasuringDouble) -> None:
    said: list[str] = []

    def another(task: Task) -> None:
        measuring.before = lambda task: None
        said.append(asked.run(*TWO, code=2).stderr)

    measuring.before = another
    asked.run(*TWO)
    assert "works there; wait for it, or give another folder" in said[0]


def test_without_ray_the_extra_is_named(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    said = asked.error(*TWO, "--ray", "auto")
    assert "--ray needs ray, not installed; run: " in said and "[ray]" in said


def test_python_refuses_what_the_command_does(asked: Asked) -> None:
    for wrong in ({"least_agreement": 75}, {"tokens": 0}, {"ram_bytes": 0}):
        with pytest.raises(RunError, match="give "):
            pocketlm.advise(asked.checkpoint, asked.text, **wrong)  # type: ignore[arg-type]


def test_the_command_is_joined() -> None:
    assert "advise" in main.commands
