"""Fixtures that several folders use: tiny checkpoints of every family, seeded, no network."""

import gc
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from pocketlm.edge_build import backends
from pocketlm.edge_build.build import build
from pocketlm.edge_build.build_key import build_key
from pocketlm.edge_build.preparation import prepare
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.models.random_checkpoint import write_random_checkpoint
from pocketlm.models.shapes import shape_of
from pocketlm.runtime_py.user_cache import kept

# The same examples everywhere, and no clock: a busy machine is no failure.
settings.register_profile("steady", deadline=None, derandomize=True, database=None)
settings.load_profile("steady")

WINDOW = 8
ROOT = Path(__file__).parents[1]
PICO = ROOT / "models" / "pico"

# What was lowered once serves every process of this run, and later runs of the same program.
TEST_CACHE = Path(os.environ.get("POCKETLM_TEST_CACHE") or ROOT / "build" / "test-cache")
LOWERED_CACHE = "POCKETLM_LOWERED_CACHE"
os.environ[LOWERED_CACHE] = str(TEST_CACHE / "lowered")
# Each change of the program makes new ones.
_KEPT_BUNDLES = 24

_SIZES: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6,
}

# One published-style config a family: local and global layers where the family has them.
TINY_PUBLISHED: dict[str, dict[str, Any]] = {
    "gemma3_text": {
        **_SIZES,
        "model_type": "gemma3_text",
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "query_pre_attn_scalar": 32,
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
    },
    "gemma2": {
        **_SIZES,
        "model_type": "gemma2",
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "query_pre_attn_scalar": 32,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 3.0,
    },
    "qwen3": {**_SIZES, "model_type": "qwen3", "tie_word_embeddings": False},
}

MakeCheckpoint = Callable[[str], Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the modules so that two processes, which begin with half of the tests each, never wait.

    The first process builds pico at once. What lowers other models begins the second half: tests
    of a minute at the end would leave one process idle. What needs neither is last in each half,
    and is taken over by the process that is done first.
    """
    modules: dict[Path, list[pytest.Item]] = {}
    for item in items:
        modules.setdefault(item.path, []).append(item)
    with_pico, lowering, others = [], [], []
    for path, tests in modules.items():
        words = set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
        where = with_pico if words & _BUNDLES else lowering if words & _LOWERING else others
        where += tests
    middle = max(0, len(items) // 2 - len(with_pico))
    items[:] = [*with_pico, *others[:middle], *lowering, *others[middle:]]


def pytest_collection_finish() -> None:
    """Look for garbage less often, and not among what imports made: a tenth of a lowering."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


_BUNDLES = {"pico_build", "pico_bundle", "pico_int8_bundle"}
# Names in a module whose tests lower models of their own.
_LOWERING = {"lowered_executorch", "executorch_source", "lowered_onnx", "user_lowered_cache"}


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> MakeCheckpoint:
    """Return a function: family name → folder of a tiny random checkpoint (do not write to it)."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            folder = tmp_path_factory.mktemp("checkpoints") / f"tiny-{family}"
            write_random_checkpoint(shape_of("tiny", TINY_PUBLISHED[family]), folder, seed=7)
            made[family] = folder
        return made[family]

    return make


# Backends that can keep keys and values in int8.
INT8_BACKENDS = tuple(name for name in backends.names() if "int8" in backends.load(name).kv)


@pytest.fixture(scope="session")
def pico_build(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The embedded model built for every backend, in small chunks so that its rings are short.

    Built by the command in a process of its own, so that its memory is its own, and cold; with the
    bundle comes what the command printed. A copy: tests may change it.
    """
    spec = BuildSpec(PICO, Path("pico"), recipe="int4-g32", chunk=32, context_length=512)

    def make(folder: Path) -> None:
        out, lowered = folder / "pico", folder / "lowered"
        options = ("--recipe", spec.recipe, "--chunk", spec.chunk, "--context", spec.context_length)
        arguments = ("build", PICO, "--out", out, *options, "--json")
        shown = subprocess.run(
            [sys.executable, "-m", "pocketlm", *map(str, arguments)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            check=True,
            env={**os.environ, LOWERED_CACHE: str(lowered)},
        )
        (folder / "printed.json").write_bytes(shown.stdout)

    made = made_once(spec, make)
    share_lowered(made / "lowered")
    out = shutil.copytree(made / "pico", tmp_path_factory.mktemp("bundles") / "pico")
    return Path(out), json.loads((made / "printed.json").read_bytes())


def share_lowered(folder: Path) -> None:
    """Give what was lowered cold, into a cache of its own, to the tests of all processes."""
    shared = Path(os.environ[LOWERED_CACHE])
    shared.mkdir(parents=True, exist_ok=True)
    for program in folder.glob("*.lowered"):
        copied = shared / f"{program.stem}.{os.getpid()}.writing"
        shutil.copy2(program, copied)
        copied.replace(shared / program.name)


def made_once(spec: BuildSpec, make: Callable[[Path], object]) -> Path:
    """Return a folder that `make` fills once for all processes and runs of this program.

    Args:
        spec: all that what is made depends on, besides this program and its tools.
    """
    prepared = prepare(spec)
    bundles = TEST_CACHE / "bundles"

    def make_room(folder: Path) -> None:
        make(folder)
        by_age = sorted(bundles.glob("[!.]*"), key=lambda path: path.stat().st_mtime)
        for old in by_age[:-_KEPT_BUNDLES]:
            shutil.rmtree(old, ignore_errors=True)

    return kept(bundles / build_key(prepared, prepared.checkpoint.digest()), make_room)


@pytest.fixture(scope="session")
def pico_bundle(pico_build: tuple[Path, dict[str, Any]]) -> Path:
    """The bundle of `pico_build`."""
    return pico_build[0]


@pytest.fixture(scope="session")
def pico_int8_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with int8 keys and values, for the backends that can."""
    name = "pico-int8"
    spec = BuildSpec(
        PICO,
        Path(name),
        backends=INT8_BACKENDS,
        recipe="int4-g32",
        kv="int8",
        chunk=32,
        context_length=512,
    )

    def make(folder: Path) -> None:
        build(replace(spec, out=folder / name))

    made = made_once(spec, make)
    return Path(shutil.copytree(made / name, tmp_path_factory.mktemp("bundles") / name))
