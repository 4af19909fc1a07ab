"""Assets come whole and checked into the cache, or not at all. Needs no network."""

import sys
from pathlib import Path

import pytest

from tests import assets

_SHA256 = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"  # of "hello world"


def asset(client: tuple[str, ...], sha256: str = _SHA256) -> assets.Asset:
    def unpack(packages: Path, folder: Path) -> None:
        (folder / "text").write_bytes((packages / "package").read_bytes())

    return assets.Asset("a text", "text-1", {"package": sha256}, client, unpack)


def writing(text: str) -> tuple[str, ...]:
    """Return a client that writes a text to the file that it is asked for."""
    return (sys.executable, "-c", f"import sys; open(sys.argv[1], 'w').write({text!r})")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POCKETLM_CACHE", str(tmp_path))
    return tmp_path / "tests"


def test_what_was_fetched_lies_in_the_cache_and_is_not_fetched_again(cache: Path) -> None:
    folder = assets.fetch(asset(writing("hello world")))
    assert folder == cache / "text-1"
    assert (folder / "text").read_text() == "hello world"
    assert assets.fetch(asset(("no-such-client",))) == folder


@pytest.mark.parametrize(
    ("client", "message"),
    [
        (writing("hello"), "expected one file with sha256 b94d27"),
        (("no-such-client",), "no-such-client cannot be started"),
        ((sys.executable, "-c", "raise SystemExit('offline')"), "failed: offline"),
    ],
)
def test_what_cannot_be_had_leaves_nothing(
    client: tuple[str, ...], message: str, cache: Path
) -> None:
    with pytest.raises(assets.AssetError, match=message):
        assets.fetch(asset(client))
    assert not (cache / "text-1").exists()


@pytest.mark.parametrize("family", assets.TOKENIZERS)
def test_a_test_without_its_asset_is_skipped_and_says_what_fetches_it(family: str) -> None:
    with pytest.raises(pytest.skip.Exception, match="make test-assets"):
        assets.tokenizer_of(family)
