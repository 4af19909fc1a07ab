"""The joined command line: exit codes, no tracebacks, JSON."""

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pocketlm import main
from tools import cli_reference


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    "command",
    [
        "build",
        "chat",
        "checkpoint",
        "completion",
        "devices",
        "doctor",
        "export",
        "fit",
        "inspect",
        "list",
        "profile",
        "push",
        "run",
        "verify",
    ],
)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"pocketlm {command}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("build", "nowhere", "--out", "x"), "nowhere: no such folder"),
        (("checkpoint", "gemma-3-1bb", "--random", "--out", "x"), "gemma-3-1b"),
        (("verify", "nowhere"), "nowhere"),
        (("inspect", "nowhere"), "nowhere"),
        (("run", "nowhere", "--prompt", "hi"), "nowhere"),
        (("chat", "nowhere"), "nowhere"),
    ],
)
def test_wrong_input_exits_with_2_and_no_traceback(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "error: " in result.stderr and message in result.stderr
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_the_page_of_commands_is_what_they_say_of_themselves() -> None:
    assert cli_reference.PAGE.read_text(encoding="utf-8") == cli_reference.render(), (
        "docs/cli.md is stale; run: python -m tools.cli_reference"
    )


@pytest.mark.parametrize("command", ["run", "chat", "verify", "inspect", "lint", "export", "push"])
def test_a_bundle_is_given_once_as_argument_or_with_m(command: str, tmp_path: Path) -> None:
    others = {
        "run": ("-p", "hi"),
        "export": ("--for", "genai", "-o", tmp_path / "app"),
        "push": ("--on", "host"),
    }.get(command, ())
    named = invoke(command, "-m", tmp_path / "nowhere", *others)
    assert named.exit_code == 2 and "nowhere" in named.stderr
    missing = invoke(command, *others)
    assert missing.exit_code == 2 and "Missing argument 'BUNDLE'" in missing.stderr
    twice = invoke(command, "one", "-m", "two", *others)
    assert twice.exit_code == 2 and "BUNDLE 'one' and -m 'two' are two bundles" in twice.stderr


HELPS = [(), *((name,) for name in sorted(main.commands))]


@pytest.mark.parametrize("command", HELPS)
def test_help_fits_a_terminal_of_80_columns(command: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(main, [*command, "--help"], terminal_width=80).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert not [line for line in shown.splitlines()[1:] if line.endswith("...")]


def test_completion_is_what_click_would_print() -> None:
    for shell in ("zsh", "fish"):
        shown = invoke("completion", shell)
        assert shown.exit_code == 0
        assert f"_POCKETLM_COMPLETE={shell}_complete" in shown.stdout
    asked = {"_POCKETLM_COMPLETE": "zsh_complete", "COMP_WORDS": "pocketlm ver", "COMP_CWORD": "1"}
    found = CliRunner().invoke(main, [], prog_name="pocketlm", env=asked).stdout
    assert found.split("\n")[1] == "verify"


def test_an_interrupted_command_exits_with_130_and_says_so(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pocketlm.edge_build.weight_stages.quantize_weights", interrupt)
    out = tmp_path / "bundle"
    options = ("--out", out, "--backend", "onnx", "--recipe", "int4-g32")
    result = invoke("build", tiny_checkpoint("gemma3_text"), *options)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "error: interrupted; nothing was kept"
    assert not list(tmp_path.iterdir())


def test_a_full_disk_exits_with_2_and_says_so(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pocketlm.edge_build.weight_stages.quantize_weights", fill)
    out = tmp_path / "bundle"
    options = ("--out", out, "--backend", "onnx", "--recipe", "int4-g32")
    result = invoke("build", tiny_checkpoint("gemma3_text"), *options)
    assert result.exit_code == 2
    assert "the disk is full" in result.stderr
    assert not list(tmp_path.iterdir())


def test_dry_run_prints_the_plan_and_writes_nothing(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    result = invoke(
        "build", tiny_checkpoint("gemma3_text"), "--out", out, "--chunk", 8, "--dry-run", "--json"
    )
    assert result.exit_code == 0
    plan = json.loads(result.stdout)
    # Two rings of 8 + 8 - 1 slots and one full cache of 128, 2 heads of 32, keys and values.
    kv_bytes = 2 * (2 * 15 + 128) * 2 * 32 * 4
    assert plan["kv_cache_bytes"] == {"executorch": kv_bytes, "onnx": kv_bytes}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["local-cache=ring", "onnx.local-cache", "onnx.=ring"])
def test_a_malformed_backend_option_is_refused(option: str, tmp_path: Path) -> None:
    result = invoke("build", "x", "--out", tmp_path / "y", "-O", option)
    assert result.exit_code == 2
    assert "is not BACKEND.OPTION=VALUE" in result.stderr


@pytest.mark.parametrize(
    "what", ["families", "recipes", "backends", "shapes", "targets", "profiles"]
)
def test_lists_are_printed_for_people_and_machines(what: str) -> None:
    document = json.loads(invoke("list", what, "--json").stdout)
    names = document[what]
    assert names == [row["name"] for row in document["details"]]
    assert names and [line.split()[0] for line in invoke("list", what).stdout.splitlines()] == names


def test_a_list_of_shapes_says_which_are_stand_ins() -> None:
    lines = {line.split()[0]: line for line in invoke("list", "shapes").stdout.splitlines()}
    assert "999,885,952 parameters" in lines["gemma-3-1b"]
    assert "The real model's are unpublished" in lines["nano-1.8b-standin"]
