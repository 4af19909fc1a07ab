"""pocketlm bench."""

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest

from pocketlm.runtime_py.bench.measuring import Bench, BenchRow
from pocketlm.runtime_py.bench.output import BenchSubject, busy_note, shown
from pocketlm.runtime_py.bench.plan import BenchTest
from tests.runtime_py.commands.program import Invoke

SMALL = ("-p", "8", "-n", "4", "-r", "2")
SUBJECT = BenchSubject("tiny", "int4-g32", 14_304, 13_856, "onnx", 2, "prompt")
BENCH = Bench(
    rows=(
        BenchRow(BenchTest("pp", 8, 0), (0.5, 1.0)),
        BenchRow(BenchTest("tg", 4, 16), (0.5, 0.5), drafted=6, accepted=5),
    ),
    load_s=0.25,
    first_token_s=0.75,
    resident_bytes=87_300_000,
    foreign_share=0.01,
)


def test_each_test_is_run_once_to_warm_up_and_then_as_often_as_asked(
    invoke: Invoke, fake_bundle: Any
) -> None:
    result = invoke("bench", *SMALL, "-d", "0,16")
    assert result.exit_code == 0
    tests = [line.split("|")[6].strip() for line in result.stdout.splitlines()[2:6]]
    assert tests == ["pp8", "tg4", "pp8 @ d16", "tg4 @ d16"]
    model = fake_bundle.model
    assert model.resets == 4 * 3
    # Chunks of 4: a prompt of 8 is two calls; an answer of 4 is one token to begin after, and four.
    assert [len(ids) for _, ids in model.calls[:6]] == [4, 4] * 3
    assert [len(ids) for _, ids in model.calls[6:21]] == [1] * 15
    assert model.calls[21:24] == [
        (0, model.calls[21][1]),
        (4, model.calls[22][1]),
        (8, model.calls[23][1]),
    ]


def test_json_has_every_repetition_and_what_was_measured_beside(
    invoke: Invoke, fake_bundle: Any
) -> None:
    document = json.loads(invoke("bench", *SMALL, "-o", "json").stdout)
    prompt, answer = document["tests"]
    assert (prompt["test"], answer["test"]) == ("pp8", "tg4")
    assert len(prompt["seconds"]) == 2
    speeds = [8 / seconds for seconds in prompt["seconds"]]
    assert prompt["tokens_per_s"] == pytest.approx(sum(speeds) / 2)
    assert (prompt["backend"], prompt["model"]) == ("onnx", "tiny")
    assert prompt["parameters"] == 400 * 32 + 32 * 32 + 32
    assert document["resident_bytes"] > 0
    assert document["first_token_s"] > 0
    assert document["load_s"] > 0


def test_csv_has_a_line_for_each_test(invoke: Invoke) -> None:
    rows = list(csv.DictReader(io.StringIO(invoke("bench", *SMALL, "-o", "csv").stdout)))
    assert [row["test"] for row in rows] == ["pp8", "tg4"]
    assert all(float(row["tokens_per_s"]) > 0 for row in rows)


def test_drafts_are_counted(invoke: Invoke) -> None:
    document = json.loads(
        invoke("bench", "-p", "0", "-n", "20", "-d", "30", "--draft", "prompt", "-o", "json").stdout
    )
    (answer,) = document["tests"]
    assert answer["draft"] == "prompt"
    assert 0 <= answer["accepted_tokens"] <= answer["drafted_tokens"]


def test_the_table_has_the_columns_of_llama_bench() -> None:
    lines = [
        "| model         | size    | params | backend | threads | test      | t/s          "
        "| draft  | accepted |",
        "|---------------|--------:|-------:|---------|--------:|----------:|-------------:"
        "|--------|---------:|",
        "| tiny int4-g32 | 14.3 kB | 0.01 M | onnx    | 2       | pp8       | 12.00 ± 5.66 "
        "|        |          |",
        "| tiny int4-g32 | 14.3 kB | 0.01 M | onnx    | 2       | tg4 @ d16 | 8.00 ± 0.00  "
        "| prompt | 5 of 6   |",
        "",
        "load 0.25 s, first token after 0.750 s, resident 87.3 MB",
    ]
    assert shown(SUBJECT, BENCH, "md").splitlines() == lines
    alone = shown(replace(SUBJECT, draft="off", threads=None), BENCH, "md")
    assert "accepted" not in alone
    assert "| all " in alone


def test_a_busy_machine_is_said() -> None:
    assert busy_note(BENCH) is None
    assert busy_note(replace(BENCH, foreign_share=0.25)) == (
        "the machine was busy: other programs took 25% of its processor time, so these speeds are "
        "too low; close them and measure again"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-p", "a"), "'a' is not a list of token counts such as 0,1024"),
        (("-d", "-1"), "'-1' is not a list of token counts"),
        (("-d", "8192"), "pp512 @ d8192: needs 8704 positions, the context has 64"),
        (("-p", "0", "-n", "0"), "nothing to measure"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    invoke: Invoke, fake_bundle: Any, arguments: tuple[str, ...], message: str
) -> None:
    result = invoke("bench", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert fake_bundle.loads == []
