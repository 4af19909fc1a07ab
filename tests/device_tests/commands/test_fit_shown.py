"""The commands that `fit` prints: whole commands, of a bundle, a checkpoint or a shape."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pocketlm import main
from pocketlm.device_tests.commands.fit_shown import Asked, command_of
from pocketlm.device_tests.fit import memory_budget
from pocketlm.device_tests.fit.changes import Change, Price
from pocketlm.device_tests.fit.fitting import fit
from pocketlm.device_tests.fit.memory_budget import MemoryBudget
from pocketlm.device_tests.fit.variants import variants
from pocketlm.edge_build.quantization import recipes
from pocketlm.edge_build.quantization.recipe import QuantRecipe, QuantRule, QuantScheme
from pocketlm.edge_build.quantization.rules import choose_rules
from pocketlm.models import shapes
from pocketlm.runtime_py.bundle import open_bundle
from pocketlm.runtime_py.manifest import MANIFEST_NAME

BUILT = Asked(
    None, "my bundle", {"--recipe": "mine.toml", "--context": 2048, "--chunk": 1024, "--kv": "int8"}
)
KEPT = "pocketlm build CHECKPOINT --out BUNDLE --recipe mine.toml"


def change(what: str) -> Change:
    return Change(what, 1, 1, "fits", Price(0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("asked", "what", "command"),
    [
        (BUILT, "--chunk 32", f"{KEPT} --context 2048 --chunk 32 --kv int8"),
        # A chunk is no longer than the context.
        (BUILT, "--context 512", f"{KEPT} --context 512 --chunk 512 --kv int8"),
        (BUILT, "--packed-cache", "pocketlm profile 'my bundle' --on DEVICE --packed-cache"),
        (
            BUILT,
            "--chunk 32 --packed-cache",
            f"{KEPT} --context 2048 --chunk 32 --kv int8, "
            "then pocketlm profile BUNDLE --on DEVICE --packed-cache",
        ),
        (
            Asked("./my model", None, {"--context": 8192}),
            "--kv int8",
            "pocketlm build './my model' --out BUNDLE --context 8192 --kv int8",
        ),
        (Asked(None, None, {}), "--chunk 32", "pocketlm build CHECKPOINT --out BUNDLE --chunk 32"),
        (
            Asked(None, None, {}),
            "--packed-cache",
            "pocketlm profile BUNDLE --on DEVICE --packed-cache",
        ),
    ],
)
def test_a_command_keeps_what_it_does_not_change(asked: Asked, what: str, command: str) -> None:
    assert command_of(asked, change(what)) == command


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["fit", *map(str, arguments)])


def just_too_small(manifest_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the only device hold the bundle with int8 caches, and not as it is."""
    manifest = open_bundle(str(manifest_folder), check_hashes=False).manifest
    board = MemoryBudget("board", 10**9, 10**9, 0, evicts=False)
    now, then = (
        fit(one, "onnx", board).prediction.dirty_bytes
        for one in (manifest, dict(variants(manifest, "onnx"))["--kv int8"])
    )
    small = replace(board, available_bytes=int(1.05 * (now + then) / 2))
    monkeypatch.setattr(memory_budget, "find_budget", lambda name: small)


@pytest.fixture
def bundle_by_file(pico_bundle: Path, tmp_path: Path) -> Path:
    """A bundle whose recipe was a file with the name of a built-in one."""
    recipe = QuantRecipe(
        "int4-g32.toml",
        (
            QuantRule("embed_tokens", QuantScheme(4, 32), "table"),
            QuantRule("*", QuantScheme(8), "8 bits"),
        ),
    )
    folder = tmp_path / "mine"
    shutil.copytree(pico_bundle, folder)
    manifest = open_bundle(str(pico_bundle), check_hashes=False).manifest
    rules = choose_rules({t.name: t.shape for t in manifest.tensors}, recipe)
    tensors = [
        replace(t, bits=scheme.bits, group_size=scheme.group_size) if scheme else t
        for t, scheme in ((t, rules[t.name].scheme) for t in manifest.tensors)
    ]
    written = replace(
        manifest,
        recipe=recipe.name,
        recipe_rules=recipes.recorded(recipe),
        tensors=tuple(tensors),
    )
    (folder / MANIFEST_NAME).write_text(written.to_json(), encoding="utf-8")
    return folder


def test_a_bundles_remedy_names_its_checkpoint_and_not_the_bundle(
    pico_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    just_too_small(pico_bundle, monkeypatch)
    result = invoke(pico_bundle, "--device", "board", "--backend", "onnx", "--verbose")
    assert result.exit_code == 1
    build = "pocketlm build CHECKPOINT --out BUNDLE --recipe int4-g32 --context 512 --chunk 32"
    assert f"to make it tight:\n  {build} --kv int8\n" in result.stdout
    assert "CHECKPOINT: what pico was built from\n" in result.stdout


def test_a_recipe_from_a_file_is_read_from_the_manifest_whatever_the_file_says_now(
    bundle_by_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    just_too_small(bundle_by_file, monkeypatch)
    monkeypatch.chdir(tmp_path)
    Path("int4-g32.toml").write_text("edited after the build, and not even TOML", encoding="utf-8")
    asked = (bundle_by_file.name, "--device", "board", "--backend", "onnx")
    result = invoke(*asked, "--verbose")
    assert result.exit_code == 1
    assert "--recipe int4-g32.toml --context 512 --chunk 32 --kv int8\n" in result.stdout
    assert "int4-g32.toml: as it was then, pocketlm inspect mine shows its rules" in result.stdout
    (one,) = json.loads(invoke(*asked, "--json").stdout)["fits"]
    offered = {change["what"] for change in one["changes"]}
    assert "--kv int8" in offered
    shown = CliRunner().invoke(main, ["inspect", bundle_by_file.name]).stdout
    assert "recipe int4-g32.toml;" in shown and "8 bits" in shown


def test_a_shape_is_no_checkpoint_and_a_folder_is_one(tmp_path: Path) -> None:
    asked = ("--device", "phone-6gb", "--context", 4096, "--backend", "onnx")
    text = invoke("qwen3-0.6b", *asked).stdout
    assert "pocketlm build CHECKPOINT --out BUNDLE --context 4096 --kv int8\n" in text
    assert "CHECKPOINT: a folder or a hub id that has the weights of qwen3-0.6b\n" in text
    config = tmp_path / "config.json"
    config.write_text(json.dumps(dict(shapes.load("qwen3-0.6b").published)), encoding="utf-8")
    text = invoke(tmp_path, *asked).stdout
    assert f"pocketlm build {tmp_path} --out BUNDLE --context 4096 --kv int8\n" in text
    assert "CHECKPOINT" not in text
