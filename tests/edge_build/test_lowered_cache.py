"""The cache of lowered programs: made once, whole or not there, checked, within its size."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pocketlm.edge_build.lowered_cache import NO_CACHE, LoweredCache, user_lowered_cache
from pocketlm.runtime_py.user_cache import lowered_folder

KEY = "ab" * 32
PROGRAM = b"a program" * 100


class Lowering:
    """Counts how often it had to work."""

    def __init__(self, result: bytes = PROGRAM) -> None:
        self.result = result
        self.count = 0

    def __call__(self) -> bytes:
        self.count += 1
        return self.result


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, notices: list[str]) -> LoweredCache:
    return LoweredCache(tmp_path / "lowered", notify=notices.append)


def files(cache: LoweredCache) -> list[Path]:
    assert cache.folder is not None
    return sorted(path for path in cache.folder.iterdir() if path.is_file())


def test_what_was_lowered_is_not_lowered_again(cache: LoweredCache) -> None:
    lower = Lowering()
    assert cache.get(KEY, lower) == cache.get(KEY, lower) == PROGRAM
    assert lower.count == 1


def test_another_key_is_another_program(cache: LoweredCache) -> None:
    cache.get(KEY, Lowering())
    assert cache.get("cd" * 32, Lowering(b"other")) == b"other"


def test_without_a_cache_everything_is_lowered() -> None:
    lower = Lowering()
    assert NO_CACHE.get(KEY, lower) == NO_CACHE.get(KEY, lower) == PROGRAM
    assert lower.count == 2


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"", lambda data: b"x" * 40],
    ids=["cut off", "longer", "empty", "other"],
)
def test_what_is_damaged_is_lowered_again_with_a_notice(
    cache: LoweredCache, notices: list[str], damage: Callable[[bytes], bytes]
) -> None:
    lower = Lowering()
    cache.get(KEY, lower)
    (path,) = files(cache)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get(KEY, lower) == PROGRAM
    assert notices == [f"{path}: the lowered program in the cache is damaged; lowering again"]
    assert cache.get(KEY, lower) == PROGRAM
    assert lower.count == 2


def test_what_cannot_be_read_is_lowered_again(cache: LoweredCache, notices: list[str]) -> None:
    assert cache.folder is not None
    (cache.folder / f"{KEY}.lowered").mkdir(parents=True)
    assert cache.get(KEY, Lowering()) == PROGRAM
    assert "cannot be read (Is a directory); lowering again" in notices[0]
    assert "cannot be kept there (" in notices[1]
    assert files(cache) == []


def test_a_cache_that_cannot_be_written_fails_no_build(tmp_path: Path, notices: list[str]) -> None:
    (tmp_path / "file").touch()
    cache = LoweredCache(tmp_path / "file" / "lowered", notify=notices.append)
    assert cache.get(KEY, Lowering()) == PROGRAM
    assert len(notices) == 2
    assert "the next build of these shapes lowers again" in notices[1]


def test_a_lowering_that_fails_leaves_nothing(cache: LoweredCache) -> None:
    def fail() -> bytes:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        cache.get(KEY, fail)
    assert files(cache) == []


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    cache = LoweredCache(tmp_path, limit_bytes=2000)
    for age, key in enumerate(("c", "b", "a")):
        cache.get(key, Lowering(bytes(800)))
        os.utime(tmp_path / f"{key}.lowered", (1000 + age, 1000 + age))
    assert [path.name for path in files(cache)] == ["a.lowered", "b.lowered"]
    # Read again, b is the newest.
    cache.get("b", Lowering())
    cache.get("d", Lowering(bytes(800)))
    assert [path.name for path in files(cache)] == ["b.lowered", "d.lowered"]


def test_a_program_above_the_limit_is_kept_alone(tmp_path: Path) -> None:
    cache = LoweredCache(tmp_path, limit_bytes=100)
    cache.get("a", Lowering(bytes(10)))
    cache.get("b", Lowering(bytes(800)))
    assert [path.name for path in files(cache)] == ["b.lowered"]


def test_processes_that_want_the_same_lower_it_once(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from pocketlm.edge_build.lowered_cache import LoweredCache
def lower():
    with open({str(tmp_path / "count")!r}, "a") as file:
        file.write("x")
    return os.urandom(1 << 20)
print(hash(LoweredCache(Path({str(tmp_path / "lowered")!r})).get("ab", lower)) != 0)
"""
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(4)
    ]
    assert [process.communicate()[0] for process in started] == [b"True\n"] * 4
    assert (tmp_path / "count").read_text() == "x"


def test_it_lies_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("POCKETLM_LOWERED_CACHE")
    monkeypatch.setenv("POCKETLM_CACHE", str(tmp_path))
    assert user_lowered_cache().folder == lowered_folder() == tmp_path / "lowered"
    monkeypatch.setenv("POCKETLM_LOWERED_CACHE", "/elsewhere")
    assert user_lowered_cache().folder == Path("/elsewhere")
