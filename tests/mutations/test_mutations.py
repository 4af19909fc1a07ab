"""A few hundred changed inputs; `python -m tests.mutations --count 20000` runs many."""

from random import Random

import pytest
from click.testing import CliRunner

from pocketlm import main
from tests.mutations.harness import Harness, counted
from tests.mutations.surroundings import doubled_surroundings
from tests.mutations.world import (
    BUNDLE,
    CHECKPOINT,
    CODED,
    GGUF,
    QWEN,
    SHARDED,
    TEMPORARY,
)

_COUNT, _SEED = 300, 20


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    return Harness(tmp_path_factory.mktemp("mutations"))


def test_changed_inputs_end_in_one_short_line_and_leave_everything_as_it_was(
    harness: Harness,
) -> None:
    findings = harness.run(_SEED, range(_COUNT))
    assert not findings, "\n".join(counted(findings))


def test_the_same_number_is_the_same_input(harness: Harness) -> None:
    subject = harness.subjects[0]
    sound = (harness.world / subject.path).read_bytes()
    assert subject.change(sound, Random("1:2")) == subject.change(sound, Random("1:2"))


def test_sound_inputs_are_accepted(harness: Harness) -> None:
    with doubled_surroundings(harness.world / TEMPORARY):
        tokenizer = ["--tokenizer", str(harness.world / CHECKPOINT)]
        for name in (CHECKPOINT, QWEN, SHARDED, CODED, GGUF):
            plan = ["build", str(harness.world / name), "--out", str(harness.world / "out")]
            plan += tokenizer if name == GGUF else []
            shown = CliRunner().invoke(main, [*plan, "--dry-run", "--context", "64"])
            assert shown.exit_code == 0, shown.output
        for command in ("inspect", "verify", "lint"):
            shown = CliRunner().invoke(main, [command, str(harness.world / BUNDLE)])
            assert shown.exit_code == 0, shown.output
