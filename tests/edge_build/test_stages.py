"""Finished stages are taken over, anything else is done again."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pocketlm.edge_build.errors import InterruptedBuildError
from pocketlm.edge_build.progress import (
    Advance,
    Event,
    Notice,
    StageAdvanced,
    StageFinished,
    StageStarted,
    ignore,
)
from pocketlm.edge_build.stages import (
    PARTS_NAME,
    ResultFormat,
    Stages,
    finished_names,
    run_unkept,
)

NAMES = ("first", "second", "third")
TEXT: ResultFormat[str] = ResultFormat(
    lambda text, folder: {"text": text}, lambda document, folder: str(document["text"])
)


@pytest.fixture(autouse=True)
def _kept_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here frees memory, and collecting garbage takes the time of many tests."""
    monkeypatch.setattr("pocketlm.edge_build.stages.return_freed_memory", lambda: None)


class Build:
    """Three stages that each write a file; records which ran and the events."""

    def __init__(self, folder: Path, key: str = "key") -> None:
        self.worked: list[str] = []
        self.events: list[Event] = []
        self.stages = Stages(folder, key, NAMES, self.events.append)

    @property
    def notices(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Notice)]

    def run(self, *names: str) -> list[str]:
        return [self.stages.run(name, self._work(name), TEXT) for name in names or NAMES]

    def _work(self, name: str) -> Callable[[Path, Advance], str]:
        def work(folder: Path, advance: Advance) -> str:
            self.worked.append(name)
            (folder / "deep").mkdir()
            (folder / "deep" / f"{name}.bin").write_bytes(name.encode() * 1000)
            advance("whatever", 1, 2, "half")
            return f"result of {name}"

        return work


def test_a_stage_is_worked_once_and_gives_the_same_result_again(tmp_path: Path) -> None:
    first = Build(tmp_path)
    results = first.run("first", "second")
    again = Build(tmp_path)
    assert again.run() == [*results, "result of third"]
    assert again.worked == ["third"]
    assert again.notices == ["continuing an interrupted build: first, second done before"]
    reports = [event.report for event in again.events if isinstance(event, StageFinished)]
    assert [(report.name, report.reused) for report in reports] == [
        ("first", True),
        ("second", True),
        ("third", False),
    ]
    assert all(report.peak_bytes > 0 and report.wall_s >= 0 for report in reports)


def test_stages_tell_their_start_progress_and_end_under_their_own_name(tmp_path: Path) -> None:
    build = Build(tmp_path)
    build.run("first")
    started, advanced, finished = build.events
    assert started == StageStarted("first")
    assert advanced == StageAdvanced("first", 1, 2, "steps", "half")
    assert isinstance(finished, StageFinished)


def test_a_stage_that_did_not_end_is_named_and_done_again(tmp_path: Path) -> None:
    Build(tmp_path).run("first")
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "half").write_text("half a file")
    build = Build(tmp_path)
    assert build.notices == [
        "continuing an interrupted build: first done before; the last run ended during second"
    ]
    build.run()
    assert not (tmp_path / "second" / "half").exists()


def flip_a_bit(folder: Path) -> None:
    path = folder / "second" / "deep" / "second.bin"
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)


def shorten(folder: Path) -> None:
    path = folder / "second" / "deep" / "second.bin"
    path.write_bytes(path.read_bytes()[:-1])


def add_a_file(folder: Path) -> None:
    (folder / "second" / "added").write_text("not of the stage")


def lose_a_file(folder: Path) -> None:
    (folder / "second" / "deep" / "second.bin").unlink()


def lose_the_folder(folder: Path) -> None:
    shutil.rmtree(folder / "second")


def link_a_file(folder: Path) -> None:
    path = folder / "second" / "deep" / "second.bin"
    path.rename(folder.parent / "elsewhere.bin")
    path.symlink_to(folder.parent / "elsewhere.bin")


def link_the_folder(folder: Path) -> None:
    (folder / "second").rename(folder.parent / "elsewhere")
    (folder / "second").symlink_to(folder.parent / "elsewhere")


def edit_record(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "second.finished.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return edit


def cut_the_record(folder: Path) -> None:
    path = folder / "second.finished.json"
    path.write_text(path.read_text()[:100])


DAMAGES: Mapping[str, Callable[[Path], None]] = {
    "a flipped bit": flip_a_bit,
    "a short file": shorten,
    "a file more": add_a_file,
    "a file less": lose_a_file,
    "no folder": lose_the_folder,
    "a link to the same bytes": link_a_file,
    "a link to the same folder": link_the_folder,
    "an edited result": edit_record(lambda d: d["result"].update(text="another")),
    "an edited list of files": edit_record(lambda d: d["files"].clear()),
    "a record without its digest": edit_record(lambda d: d.pop("record_sha256")),
    "a record cut short": cut_the_record,
    "a binary record": lambda f: (f / "second.finished.json").write_bytes(b"\xff\x00"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_stage_and_all_after_it_are_done_again(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    results = Build(folder).run()
    damage(folder)
    build = Build(folder)
    assert any("second, third: finished by an interrupted build" in n for n in build.notices)
    assert build.run() == results
    assert build.worked == ["second", "third"]


def test_removing_a_link_keeps_what_it_points_to(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    Build(folder).run()
    link_the_folder(folder)
    Build(folder)
    assert (tmp_path / "elsewhere" / "deep" / "second.bin").exists()


def test_another_key_starts_over(tmp_path: Path) -> None:
    Build(tmp_path).run("first", "second")
    build = Build(tmp_path, key="another")
    assert [path.name for path in tmp_path.iterdir()] == []
    assert build.notices == [
        "first, second: finished by an interrupted build, but with other input, options or tools, "
        "or damaged since; done again"
    ]
    build.run()
    assert build.worked == list(NAMES)


def test_a_stage_that_fails_is_not_finished(tmp_path: Path) -> None:
    stages = Stages(tmp_path, "key", NAMES, ignore)

    def fail(folder: Path, advance: Advance) -> str:
        (folder / "half").write_text("half a file")
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        stages.run("first", fail, TEXT)
    assert finished_names(tmp_path) == []


def test_the_record_is_written_after_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(folder: Path, name: str, record: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pocketlm.edge_build.stages._write_record", stop)
    with pytest.raises(KeyboardInterrupt):
        Build(tmp_path).run("first")
    monkeypatch.undo()
    build = Build(tmp_path)
    assert finished_names(tmp_path) == [] and build.stages.finished == {}


@pytest.mark.parametrize(
    "refusal", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")]
)
def test_a_refusal_of_memory_is_said_in_words(refusal: Exception, tmp_path: Path) -> None:
    def refuse(folder: Path, advance: Advance) -> str:
        raise refusal

    with pytest.raises(
        InterruptedBuildError, match=r"^first: the system gave no more memory .*dry-run"
    ):
        Stages(tmp_path, "key", NAMES, ignore).run("first", refuse, TEXT)


def test_other_runtime_errors_stay_what_they_are() -> None:
    def fail() -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run_unkept("checkpoint", fail, ignore)


def test_files_move_under_their_own_paths(tmp_path: Path) -> None:
    folder, target = tmp_path / "work", tmp_path / "bundle"
    folder.mkdir()
    build = Build(folder)
    build.run("first")
    build.stages.move_files("first", target)
    assert (target / "deep" / "first.bin").read_bytes() == b"first" * 1000


def test_bytes_that_are_kept_are_known_before_the_work(tmp_path: Path) -> None:
    Build(tmp_path).run("first", "second")
    assert Build(tmp_path).stages.kept_bytes == 1000 * len("firstsecond")


def parted(folder: Path, key: str, fault: Callable[[Path], object] = lambda parts: None) -> Stages:
    """Return the stages after a run that ended in the second one, which had kept a part."""
    first = Stages(folder, key, NAMES, ignore)
    first.run("first", lambda stage, advance: "one", TEXT)

    def work(stage: Path, advance: Advance) -> str:
        (stage / PARTS_NAME).write_text(key)
        (stage / "part").write_text("kept")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run("second", work, TEXT)
    fault(folder / "second")
    return Stages(folder, "key", NAMES, ignore)


def test_parts_of_an_unfinished_stage_are_there_when_it_is_worked_again(tmp_path: Path) -> None:
    stages = parted(tmp_path, "key")
    found = stages.run("second", lambda stage, advance: (stage / "part").read_text(), TEXT)
    assert found == "kept"


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("other", lambda parts: None),
        ("key", lambda parts: (parts / PARTS_NAME).unlink()),
        ("key", lambda parts: (parts / PARTS_NAME).write_bytes(b"\xff\xfe")),
    ],
)
def test_parts_of_another_build_are_removed(
    key: str, fault: Callable[[Path], object], tmp_path: Path
) -> None:
    stages = parted(tmp_path, key, fault)
    assert not (tmp_path / "second").exists()
    stages.run("second", lambda stage, advance: str([*stage.iterdir()]), TEXT)
    assert stages.finished["second"].result == {"text": "[]"}


def test_parts_in_a_linked_folder_are_not_taken(tmp_path: Path) -> None:
    def link(parts: Path) -> None:
        parts.rename(tmp_path / "elsewhere")
        parts.symlink_to(tmp_path / "elsewhere")

    work = tmp_path / "work"
    work.mkdir()
    stages = parted(work, "key", link)
    assert not (work / "second").exists() and (tmp_path / "elsewhere" / "part").exists()
    assert stages.run("second", lambda stage, advance: "two", TEXT) == "two"
