"""pocketlm eval on pico, through real artifacts and their rings."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from pocketlm.cli import main
from pocketlm.edge_build.build import build
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.evaluation.evaluation import evaluate
from pocketlm.evaluation.kept_passages import kept_passages
from pocketlm.evaluation.passages import text_passages
from pocketlm.evaluation.result import result_of
from pocketlm.evaluation.subject import Subject, artifact_subject, checkpoint_subject
from pocketlm.models.checkpoint import load_decoder, open_checkpoint
from pocketlm.runtime_py.errors import RunError
from tests.artifacts import CHUNK, CONTEXT
from tests.conftest import PICO, MakeCheckpoint, made_once

ROOT = Path(__file__).parents[2]
# As pico answers it.
ANSWER = "The class Counter is in the module collections:\n\nimport collections"
# Prose that pico never saw; more than twice around its rings.
TEXT = (ROOT / "docs" / "kv-cache.md").read_text(encoding="utf-8")[:2500]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETLM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["eval", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def document(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json").stdout)
    return found


@pytest.mark.parametrize("backend", ["onnx", "executorch"])
def test_a_bundle_against_its_checkpoint(pico_bundle: Path, text_file: Path, backend: str) -> None:
    found = document(
        pico_bundle, "--text", text_file, "--against", PICO, "--backend", backend, "--window", 256
    )
    assert set(found) == {
        "subject", "against", "tokens", "passages", "perplexity", "nats_per_token",
        "bits_per_byte", "kl_nats", "top1_agreement", "top5_agreement", "bits_per_weight",
        "artifact_bytes", "reused_tokens",
    }  # fmt: skip
    assert found["passages"] > 1 and found["tokens"] > 400
    assert found["perplexity"] == pytest.approx(np.exp(found["nats_per_token"]))
    kl = found["kl_nats"]
    # Four bits cost something, and not the model.
    assert 0.001 < kl["median"] < kl["mean"] < kl["p99"] <= kl["max"]
    assert kl["mean"] < 0.5 and found["top1_agreement"] > 0.7
    assert 4 < found["bits_per_weight"] < 5
    # The model and its external data; copies of the tokenizer beside them hold no weights.
    held = [path for path in (pico_bundle / backend).iterdir() if ".json" not in path.name]
    assert {path.suffix for path in held} <= {".pte", ".onnx", ".data"}
    assert found["artifact_bytes"] == sum(path.stat().st_size for path in held) > 2_000_000


def test_float32_loses_nothing(tiny_checkpoint: MakeCheckpoint, text_file: Path) -> None:
    # The sizes of other tests, whose graph it is.
    tiny = tiny_checkpoint("gemma3_text")
    spec = BuildSpec(
        tiny,
        Path("float"),
        ("onnx",),
        recipe="none",
        context_length=CONTEXT,
        chunk=CHUNK,
        golden_tokens=2,
    )
    made = made_once(spec, lambda folder: build(replace(spec, out=folder / "float")))
    found = document(made / "float", "--text", text_file, "--against", tiny, "--tokens", 200)
    # float32 in another order, and logarithms right to 1e-6.
    assert found["kl_nats"]["max"] < 1e-5
    assert found["top1_agreement"] == 1
    assert found["tokens"] == 200


def test_a_checkpoint_alone_has_the_decoders_perplexity(text_file: Path) -> None:
    found = document(PICO, "--text", text_file)
    tokenizer = checkpoint_subject(str(PICO)).tokenizer
    ids = torch.tensor([tokenizer.encode_prompt(TEXT)])
    with torch.no_grad():
        logits = load_decoder(open_checkpoint(PICO))(ids)[0, :-1]
    nats = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
    # float32 in another order.
    assert found["nats_per_token"] == pytest.approx(float(nats.mean()), abs=1e-5)
    assert found["bits_per_byte"] == pytest.approx(
        float(nats.sum()) / np.log(2) / len(TEXT.encode()), rel=1e-3
    )
    assert found["kl_nats"] is None and found["against"] is None


def test_conversations_are_measured_under_the_template(pico_bundle: Path, tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "Which module has Counter?"},
        {"role": "assistant", "content": ANSWER},
    ]
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps({"messages": messages}) + "\n")
    known = document(pico_bundle, "--chats", path)
    messages[1]["content"] = ANSWER.replace("collections", "asyncio")
    path.write_text(json.dumps({"messages": messages}) + "\n")
    assert known["tokens"] > 5
    # pico learned the first answer.
    assert known["perplexity"] < 1.5 < document(pico_bundle, "--chats", path)["perplexity"]


class _KilledError(Exception):
    """A run that ends in the middle."""


def test_a_run_that_was_killed_goes_on(pico_bundle: Path) -> None:
    subject, against = artifact_subject(str(pico_bundle), "onnx", 1), checkpoint_subject(str(PICO))
    passages = text_passages(TEXT[:800], subject.tokenizer, 64)
    kept = kept_passages([subject.digest, against.digest], passages)

    def until(limit: int) -> Callable[[int, int, str], None]:
        def advance(done: int, total: int, what: str) -> None:
            if done > limit:
                raise _KilledError

        return advance

    with pytest.raises(_KilledError):
        evaluate(subject, against, passages, kept, until(150))
    reused = evaluate(subject, against, passages, kept, until(10_000))
    # Two whole passages of 63 tokens.
    assert reused.reused_tokens == 126
    kept.clear()
    fresh = evaluate(subject, against, passages, kept, until(10_000))
    assert fresh.reused_tokens == 0
    assert np.array_equal(fresh.measures.columns, reused.measures.columns)
    assert result_of(subject, against, fresh) == result_of(subject, against, reused)


def test_nothing_is_loaded_for_what_is_measured_already(pico_bundle: Path) -> None:
    subject = artifact_subject(str(pico_bundle), "onnx", 1)
    passages = text_passages(TEXT, subject.tokenizer, 128)
    kept = kept_passages([subject.digest, None], passages)
    first = evaluate(subject, None, passages, kept, lambda *done: None)

    def never(report: object) -> Any:
        raise AssertionError("loaded")

    again = evaluate(replace(subject, load=never), None, passages, kept, lambda *done: None)
    assert np.array_equal(first.measures.nats, again.measures.nats)


def test_the_command_tells_of_what_it_did_not_measure_again(
    pico_bundle: Path, text_file: Path
) -> None:
    asked = (pico_bundle, "--text", text_file, "--tokens", 60)
    assert "measured by an earlier run" not in run(*asked).stderr
    assert "note: 60 tokens were measured by an earlier run" in run(*asked).stderr
    assert "measured by an earlier run" not in run(*asked, "--fresh").stderr


def test_the_page_shows_the_text_and_what_it_cost(
    pico_bundle: Path, tmp_path: Path, text_file: Path
) -> None:
    text_file.write_text("<script>alert('x')</script> & the \x1b[31m rest of it " * 12)
    page = tmp_path / "page.html"
    shown = run(
        pico_bundle, "--text", text_file, "--against", PICO, "--html", page, "--tokens", 90
    ).stdout
    written = page.read_text(encoding="utf-8")
    assert "<script" not in written and "\x1b" not in written
    assert "default-src 'none'" in written
    assert written.count('title="token ') == 90
    for figure in ("same top token", "KL divergence, mean", "bits per weight"):
        assert figure in shown and figure in written


def test_the_page_numbers_tokens_once_and_names_control_tokens(
    pico_bundle: Path, tmp_path: Path
) -> None:
    messages = [
        {"role": "user", "content": "Which module has Counter?"},
        {"role": "assistant", "content": ANSWER},
    ]
    path, page = tmp_path / "chats.jsonl", tmp_path / "page.html"
    path.write_text(f"{json.dumps({'messages': messages})}\n" * 2)
    found = document(pico_bundle, "--chats", path, "--html", page)
    written = page.read_text(encoding="utf-8")
    titles = [int(number) for number in re.findall(r'title="token (\d+): ', written)]
    assert titles == [*range(1, found["tokens"] + 1)]
    assert written.count("&lt;end_of_turn&gt;") >= 2


def test_a_page_says_how_many_tokens_it_leaves_out(
    pico_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text_file: Path
) -> None:
    monkeypatch.setattr("pocketlm.evaluation.page._MOST_TOKENS", 70)
    page = tmp_path / "page.html"
    asked = ("--tokens", 150, "--window", 64, "--html", page)
    run(pico_bundle, "--text", text_file, *asked)
    written = page.read_text(encoding="utf-8")
    # Two whole passages of 63.
    assert written.count('title="token ') == 126
    assert "24 more tokens are in the figures" in written


def test_a_cache_that_cannot_be_written_ends_nothing(
    pico_bundle: Path, tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCKETLM_CACHE", str(text_file / "below a file"))
    result = run(pico_bundle, "--text", text_file, "--tokens", 5)
    assert "perplexity" in result.stdout
    assert "cannot be kept (Not a directory)" in result.stderr


def test_figures_are_shown_before_a_page_that_cannot_be_written(
    pico_bundle: Path, text_file: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    (tmp_path / ".page.html.writing").mkdir()
    result = run(pico_bundle, "--text", text_file, "--tokens", 5, "--html", page, code=2)
    assert "perplexity" in result.stdout
    assert "page.html: cannot be written (Is a directory)" in result.stderr


BOTH = "Give one of --text FILE and --chats FILE."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), BOTH),
        (("--text", "TEXT", "--chats", "TEXT"), BOTH),
        (("--text", "no-such-file"), "no-such-file: cannot be read"),
        (("--text", "TEXT", "--backend", "tpu"), "--backend tpu: "),
        (("--text", "TEXT", "--html", "no/such/page.html"), "the folder does not exist"),
        (("--text", "TEXT", "--html", "x" * 300), "cannot be written (File name too long)"),
        (("--text", "TEXT", "--html", ""), "a folder; give the path of a file"),
        (("--text", "TEXT", "--html", "TEXT"), "would take the place of what is read"),
        (("--text", "TEXT", "--window", "513"), "takes 512 tokens at most"),
        (("--text", "TEXT", "--against", "no-such-checkpoint"), "no-such-checkpoint"),
    ],
)
def test_bad_input_is_one_line_and_measures_nothing(
    arguments: tuple[str, ...], message: str, pico_bundle: Path, text_file: Path, tmp_path: Path
) -> None:
    given = (str(text_file) if each == "TEXT" else each for each in arguments)
    result = run(pico_bundle, *given, code=2)
    assert message in result.stderr and "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "cache" / "evaluations").exists()


def test_a_backend_of_a_checkpoint_is_refused(text_file: Path) -> None:
    assert (
        "is no bundle; leave it out"
        in run(PICO, "--text", text_file, "--backend", "onnx", code=2).stderr
    )


def test_a_reference_of_another_vocabulary_is_refused(pico_bundle: Path) -> None:
    subject = artifact_subject(str(pico_bundle), "onnx", 1)
    other: Subject = replace(checkpoint_subject(str(PICO)), vocab_size=7, name="other")
    passages = text_passages(TEXT, subject.tokenizer, 128)
    kept = kept_passages(["x"], passages)
    with pytest.raises(RunError, match="--against other: 7 rows of logits"):
        evaluate(subject, other, passages, kept, lambda *done: None)
