import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pocketlm.runtime_py.golden import Golden
from pocketlm.runtime_py.verification import verify
from pocketlm.runtime_py.verification_result import Mismatch, VerificationResult


@pytest.fixture
def golden(fake_bundle: Any) -> Golden:
    return Golden.from_json((fake_bundle.folder / "golden/onnx.json").read_text())


def result_of(fake_bundle: Any, golden: Golden | None = None) -> VerificationResult:
    if golden is not None:
        fake_bundle.write("golden/onnx.json", golden.to_json())
    result = verify(fake_bundle.open(), "onnx")
    # Whatever came out must be a JSON document.
    json.dumps(result.to_document(), allow_nan=False)
    return result


def only(result: VerificationResult) -> Mismatch:
    assert not result.passed
    assert len(result.mismatches) == 1, result.mismatches
    return result.mismatches[0]


def test_a_right_artifact_passes_every_replay(fake_bundle: Any) -> None:
    result = result_of(fake_bundle)
    assert result.passed
    assert result.mismatches == ()
    assert [(case.name, case.replay, case.steps) for case in result.cases] == [
        ("short", "in chunks", 4),
        ("wraps", "in chunks", 5),
        ("short", "token by token", 4),
        ("wraps", "token by token", 5),
        ("short", "after reset", 4),
    ]
    assert (result.tokenizer_cases, result.chat_cases, result.near_ties) == (1, 1, 0)
    # Digests keep nine digits.
    assert 0 <= result.max_logit_error_std < 1e-7
    document = result.to_document()
    assert document["passed"] is True
    assert document["bundle"] == "tiny"


def test_prompts_are_replayed_in_chunks_and_token_by_token(fake_bundle: Any) -> None:
    result_of(fake_bundle)
    lengths = [len(tokens) for _, tokens in fake_bundle.model.calls]
    # 2 tokens and 3 more steps; 17 in chunks of 4 and 4 more steps.
    assert lengths[:12] == [2, 1, 1, 1, 4, 4, 4, 4, 1, 1, 1, 1]
    assert set(lengths[12:26]) == {1}
    assert fake_bundle.model.closed


def test_a_long_prompt_is_fed_token_by_token_only_if_it_is_the_shortest(
    fake_bundle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketlm.runtime_py.replay._LONGEST_BY_TOKEN", 1)
    cases = result_of(fake_bundle).cases
    assert [case.name for case in cases if case.replay == "token by token"] == ["short"]


def test_progress_runs_to_the_end(fake_bundle: Any) -> None:
    steps: list[tuple[int, int, str]] = []
    verify(fake_bundle.open(), "onnx", advance=lambda *step: steps.append(step))
    assert steps[-1] == (22, 22, "short after reset")


def test_another_tokenization_is_named(fake_bundle: Any, golden: Golden) -> None:
    case = golden.tokenizer_cases[0]
    wrong = replace(golden, tokenizer_cases=(replace(case, ids=(1, 2)),))
    mismatch = only(result_of(fake_bundle, wrong))
    assert (mismatch.check, mismatch.case) == ("tokenizer", "'hello €'")
    assert mismatch.expected == "(1, 2)"
    assert mismatch.found == str(case.ids)


def test_other_stop_ids_are_named(fake_bundle: Any, golden: Golden) -> None:
    mismatch = only(result_of(fake_bundle, replace(golden, stop_ids=(1,))))
    assert mismatch == Mismatch("stop ids", "", None, None, "(1,)", "(1, 5)")


def test_another_activation_quantization_is_named(fake_bundle: Any, golden: Golden) -> None:
    wrong = replace(golden, activation_quantization="per_token_asymmetric")
    mismatch = only(result_of(fake_bundle, wrong))
    assert (mismatch.check, mismatch.expected, mismatch.found) == (
        "activations",
        "per_token_asymmetric",
        "none",
    )


def test_another_attention_quantization_is_named(fake_bundle: Any, golden: Golden) -> None:
    mismatch = only(result_of(fake_bundle, replace(golden, attention_quantization="kv_per_token")))
    assert (mismatch.check, mismatch.expected, mismatch.found) == (
        "attention",
        "kv_per_token",
        "none",
    )


def test_another_rendering_is_named_with_both_texts(fake_bundle: Any, golden: Golden) -> None:
    chat = golden.chat_cases[0]
    mismatch = only(
        result_of(fake_bundle, replace(golden, chat_cases=(replace(chat, rendered="x"),)))
    )
    assert (mismatch.check, mismatch.case, mismatch.expected) == ("chat", "chat 1", "'x'")
    assert mismatch.found == repr(chat.rendered)


def test_other_ids_of_a_chat_are_named(fake_bundle: Any, golden: Golden) -> None:
    chat = golden.chat_cases[0]
    wrong = replace(golden, chat_cases=(chat, replace(chat, ids=(2,))))
    mismatch = only(result_of(fake_bundle, wrong))
    assert (mismatch.case, mismatch.expected, mismatch.found) == ("chat 2", "(2,)", str(chat.ids))


def test_template_variables_reach_the_template(fake_bundle: Any, golden: Golden) -> None:
    fake_bundle.write("chat_template.jinja", "{{ enable_thinking }}")
    chat = replace(
        golden.chat_cases[0],
        variables={"enable_thinking": False},
        rendered="False",
        ids=tuple(fake_bundle.tokenizer.encode("False")),
    )
    assert result_of(fake_bundle, replace(golden, chat_cases=(chat,))).passed


def test_a_broken_template_is_a_difference_and_the_rest_is_still_checked(
    fake_bundle: Any,
) -> None:
    fake_bundle.write("chat_template.jinja", "{{ ''.__class__ }}")
    result = result_of(fake_bundle)
    assert "the chat template was stopped" in only(result).found
    assert len(result.cases) == 5


def test_a_missing_template_is_a_difference(fake_bundle: Any) -> None:
    fake_bundle.remove("chat_template.jinja")
    mismatch = only(result_of(fake_bundle))
    assert (mismatch.expected, mismatch.found) == ("a chat template", "none in the bundle")


def test_no_chats_need_no_template(fake_bundle: Any, golden: Golden) -> None:
    fake_bundle.remove("chat_template.jinja")
    assert result_of(fake_bundle, replace(golden, chat_cases=())).passed


def at_step(step: int, change: Callable[[Any], None]) -> Callable[[Any, Any], Any]:
    """Disturb the rows of case "short" (2 prompt tokens) at one step."""

    def disturb(model: Any, logits: Any) -> Any:
        if len(model.history) == 2 + step:
            change(logits)
        return logits

    return disturb


def test_another_greedy_id_is_named_with_its_text_and_margin(
    fake_bundle: Any, golden: Golden
) -> None:
    def prefer_hello(logits: Any) -> None:
        logits[hello] = 50

    hello = fake_bundle.tokenizer.encode("hello")[0]
    fake_bundle.model.disturb = at_step(1, prefer_hello)
    result = result_of(fake_bundle)
    greedy = [mismatch for mismatch in result.mismatches if mismatch.check == "greedy id"]
    assert [(m.case, m.step, m.position) for m in greedy] == [
        ("short (in chunks)", 1, 2),
        ("short (token by token)", 1, 2),
        ("short (after reset)", 1, 2),
    ]
    expected = golden.cases[0].continuation_ids[1]
    assert greedy[0].expected.startswith(f"{expected} {fake_bundle.tokenizer.token(expected)!r}, ")
    assert "std ahead" in greedy[0].expected
    assert greedy[0].found == f"{hello} 'hello'"
    assert [case.passed for case in result.cases] == [False, True, False, True, False]


def test_a_logit_beyond_the_tolerance_is_named_with_its_error(
    fake_bundle: Any, golden: Golden
) -> None:
    digest = golden.cases[0].logits[2]

    def shift(logits: Any) -> None:
        logits[digest.sample_ids[5]] -= 0.01

    fake_bundle.model.disturb = at_step(2, shift)
    result = result_of(fake_bundle)
    mismatch = result.mismatches[0]
    assert (mismatch.check, mismatch.step, mismatch.position) == ("logits", 2, 3)
    assert mismatch.expected == "error up to 0.001 std"
    # float32 subtraction; three digits shown.
    assert mismatch.found == f"{0.01 / digest.std:.3g} std"
    assert result.max_logit_error_std == pytest.approx(0.01 / digest.std, rel=1e-3)


def test_a_near_tie_is_counted_and_does_not_fail(fake_bundle: Any, golden: Golden) -> None:
    case = golden.cases[0]
    digest = case.logits[1]
    second = digest.top_ids[1]
    # As if the eager model had been undecided by less than twice the tolerance.
    gap = (digest.top_logits[0] - digest.top_logits[1]) / digest.std
    close = replace(case, tied_ids=((), (second,), (), ()))

    def swap(logits: Any) -> None:
        logits[second] = logits[digest.top_ids[0]] + 1e-3

    fake_bundle.model.disturb = at_step(1, swap)
    wide = replace(golden, tolerance=gap * 1.1, cases=(close, golden.cases[1]))
    result = result_of(fake_bundle, wide)
    assert result.passed
    assert result.near_ties == 3


def test_another_id_than_the_tied_ones_is_a_difference_however_close(
    fake_bundle: Any, golden: Golden
) -> None:
    case = golden.cases[0]
    best, _, third = case.logits[1].top_ids[:3]
    close = replace(case, tied_ids=((), (case.logits[1].top_ids[1],), (), ()))

    def prefer_third(logits: Any) -> None:
        logits[third] = logits[best] + 1e-3

    fake_bundle.model.disturb = at_step(1, prefer_third)
    wide = replace(golden, tolerance=9.0, cases=(close, golden.cases[1]))
    result = result_of(fake_bundle, wide)
    assert {mismatch.check for mismatch in result.mismatches} == {"greedy id"}


def test_a_step_with_too_many_ties_is_not_judged(fake_bundle: Any, golden: Golden) -> None:
    case = golden.cases[0]
    open_step = replace(case, tied_ids=((), None, (), ()))

    def prefer_any(logits: Any) -> None:
        logits[77] = logits.max() + 1e-3

    fake_bundle.model.disturb = at_step(1, prefer_any)
    wide = replace(golden, tolerance=9.0, cases=(open_step, golden.cases[1]))
    assert result_of(fake_bundle, wide).near_ties == 3


def test_what_a_reset_leaves_behind_is_found(fake_bundle: Any) -> None:
    """A cache that keeps something of the last sequence."""
    fake_bundle.model.reset = lambda: None
    original = fake_bundle.model.run
    state = {"dirty": 0.0}

    def run(tokens: Any, position: int) -> Any:
        if position == 0:
            state["leak"] = state["dirty"]
        state["dirty"] = 0.5
        return original(tokens, position) + np.float32(state["leak"])

    fake_bundle.model.run = run
    result = result_of(fake_bundle)
    assert result.cases[0].passed
    assert not result.cases[-1].passed
    assert result.cases[-1].replay == "after reset"


def test_a_dependence_on_the_split_is_found(fake_bundle: Any) -> None:
    def tell_writes_apart(model: Any, logits: Any) -> Any:
        if model.calls[0][1][1:] == [] and len(model.calls) > 1:
            logits = logits + 1
        return logits

    def forget_calls(model: Any) -> None:
        if not model.history:
            model.calls.clear()

    fake_bundle.model.on_run = forget_calls
    fake_bundle.model.disturb = tell_writes_apart
    result = result_of(fake_bundle)
    failed = {case.replay for case in result.cases if not case.passed}
    assert failed == {"token by token"}


def test_logits_that_are_no_numbers_fail_and_still_print(fake_bundle: Any) -> None:
    fake_bundle.model.disturb = lambda model, logits: np.full_like(logits, np.nan)
    result = result_of(fake_bundle)
    assert not result.passed
    assert result.to_document()["max_logit_error_std"] is None


def test_ids_without_a_token_do_not_count_as_greedy(fake_bundle: Any, golden: Golden) -> None:
    """The eager model's padded rows take no part; neither may the artifact's."""
    cases = tuple(replace(case, logits=()) for case in golden.cases)

    def prefer_padding(model: Any, logits: Any) -> Any:
        logits[-1] = 99
        return logits

    fake_bundle.model.disturb = prefer_padding
    assert result_of(fake_bundle, replace(golden, cases=cases)).passed
