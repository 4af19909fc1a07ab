import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pocketlm.runtime_py as package
from pocketlm.runtime_py import engines
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.session import Session, open_session


@pytest.fixture
def session(fake_bundle: Any) -> Session:
    return open_session(fake_bundle.open(), "onnx")


def error_of(action: Any, *arguments: Any) -> str:
    with pytest.raises(RunError) as caught:
        action(*arguments)
    return str(caught.value)


def test_prefill_runs_in_chunks_and_decode_one_by_one(fake_bundle: Any, session: Session) -> None:
    first = session.prefill([2, 10, 11, 12, 13, 14])
    second = session.decode(15)
    assert fake_bundle.model.calls == [(0, [2, 10, 11, 12]), (4, [13, 14]), (6, [15])]
    assert session.position == 7
    assert session.context_length == 64
    assert first.shape == second.shape == (session.vocab_size,)
    assert first.dtype == np.float32


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    tokens=st.binary(min_size=1, max_size=40),
)
def test_any_split_of_a_prompt_gives_the_same_logits(
    session: Session, cuts: list[int], tokens: bytes
) -> None:
    session.reset()
    expected = session.prefill(list(tokens))
    session.reset()
    rest = list(tokens)
    for cut in [*cuts, len(rest)]:
        piece, rest = rest[:cut], rest[cut:]
        if piece:
            found = session.prefill(piece)
    assert np.array_equal(expected, found)


def test_numpy_ids_are_ids(session: Session) -> None:
    session.prefill(np.array([2, 3]))  # type: ignore[arg-type]
    assert session.position == 2


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "prefill of no tokens"),
        ([5, -1], "token id -1 at place 1: the model has ids 0 to"),
        ([10**6], "token id 1000000 at place 0"),
        ([1.5], "1.5 is not a token id; give integers"),
        (["a"], "'a' is not a token id"),
        (list(range(6, 71)), "context full: 65 tokens asked for at position 0 of 64"),
    ],
)
def test_bad_tokens_are_refused_before_anything_runs(
    fake_bundle: Any, session: Session, tokens: Any, message: str
) -> None:
    assert message in error_of(session.prefill, tokens)
    assert fake_bundle.model.calls == []
    assert session.position == 0


def test_a_bad_token_in_the_last_chunk_is_found_first(fake_bundle: Any, session: Session) -> None:
    error_of(session.prefill, [2, 3, 4, 5, 6, 7, 10**6])
    assert fake_bundle.model.calls == []


def test_the_end_of_the_context_says_where_and_what_to_do(session: Session) -> None:
    session.prefill([7] * 64)
    message = error_of(session.decode, 7)
    assert "1 tokens asked for at position 64 of 64" in message
    assert "reset, rewind or shorten the prompt, or build with a larger --context" in message
    session.rewind(63)
    session.decode(7)


def test_rewind_goes_back_so_that_other_tokens_follow(session: Session) -> None:
    expected = session.prefill([2, 3, 4])
    session.prefill([5, 6])
    session.rewind(2)
    assert session.position == 2
    assert np.array_equal(session.decode(4), expected)


@pytest.mark.parametrize("position", [-1, 4])
def test_a_rewind_to_where_the_session_never_was_is_refused(
    session: Session, position: int
) -> None:
    session.prefill([2, 3, 4])
    message = error_of(session.rewind, position)
    assert f"rewind to {position}: the session stands at 3" in message


def test_a_rewind_beyond_a_ring_says_how_far_back_is_possible(session: Session) -> None:
    session.prefill([7] * 15)
    assert error_of(session.rewind, 10) == (
        "rewind from 15 to 10: a cache of 11 slots has overwritten what position 10 has to see (a "
        "window of 8); go back to 11 or later, or to 0"
    )
    assert session.position == 15
    session.rewind(11)


def test_two_short_rewinds_reach_no_further_than_one(session: Session) -> None:
    session.prefill([7] * 15)
    session.rewind(12)
    assert "rewind from 15 to 10" in error_of(session.rewind, 10)
    session.decode(9)
    assert "rewind from 15 to 10" in error_of(session.rewind, 10)
    session.reset()
    session.prefill([2, 3, 4])
    session.rewind(1)


def test_a_rewind_to_the_beginning_is_a_reset(fake_bundle: Any, session: Session) -> None:
    expected = session.prefill([2])
    session.prefill([3, 4, 5, 6])
    session.rewind(0)
    assert (session.position, fake_bundle.model.resets) == (0, 1)
    assert np.array_equal(session.prefill([2]), expected)
    session.prefill([3, 4])
    session.rewind(1)


def test_reset_forgets_everything(fake_bundle: Any, session: Session) -> None:
    expected = session.prefill([2, 3])
    session.prefill([4, 5])
    session.reset()
    assert session.position == 0
    assert fake_bundle.model.resets == 1
    assert np.array_equal(session.prefill([2, 3]), expected)


def interrupt(model: Any) -> None:
    model.on_run = lambda model: None
    raise KeyboardInterrupt


def test_after_a_broken_off_call_only_reset_helps(fake_bundle: Any, session: Session) -> None:
    session.prefill([2, 3])
    fake_bundle.model.on_run = interrupt
    with pytest.raises(KeyboardInterrupt):
        session.decode(4)
    assert session.needs_reset
    assert "interrupted while it wrote the caches; reset" in error_of(session.decode, 4)
    assert "interrupted while it wrote the caches; reset" in error_of(session.rewind, 1)
    session.reset()
    session.prefill([2, 3])


def test_a_session_closes_its_model(fake_bundle: Any) -> None:
    with open_session(fake_bundle.open(), "onnx"):
        assert not fake_bundle.model.closed
    assert fake_bundle.model.closed


def test_a_folder_is_opened_and_checked(fake_bundle: Any) -> None:
    open_session(fake_bundle.folder, "executorch", threads=2).close()
    assert fake_bundle.loads == ["executorch/model.bin"]
    assert fake_bundle.model.threads == 2
    (fake_bundle.folder / "executorch/model.bin").write_text("EXECUTORCH weights")
    with pytest.raises(RunError, match="changed after the build"):
        open_session(str(fake_bundle.folder), "executorch")
    open_session(str(fake_bundle.folder), "onnx")


def test_without_a_backend_the_first_installed_is_taken(
    fake_bundle: Any, installed: dict[str, str]
) -> None:
    assert open_session(fake_bundle.open()).backend == "onnx"
    del installed["fake-onnxruntime"]
    assert open_session(fake_bundle.open()).backend == "executorch"
    installed.clear()
    message = error_of(open_session, fake_bundle.open())
    assert "artifacts for executorch, onnx, and none of their runtimes is installed" in message
    assert "pip install fake-onnxruntime or fake-executorch" in message


def test_a_bundle_for_engines_that_are_not_known_yet_says_update(
    fake_bundle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "names", lambda: ())
    assert "update pocketlm" in error_of(open_session, fake_bundle.open())


def test_an_older_runtime_is_refused_before_it_is_loaded(
    fake_bundle: Any, installed: dict[str, str]
) -> None:
    installed["fake-onnxruntime"] = "1.1"
    assert "found fake-onnxruntime 1.1" in error_of(open_session, fake_bundle.open(), "onnx")
    assert fake_bundle.loads == []


def test_a_backend_that_was_not_built_is_refused(fake_bundle: Any) -> None:
    assert "only executorch, onnx" in error_of(open_session, fake_bundle.folder, "coreml")


def test_threads_must_be_at_least_one(fake_bundle: Any) -> None:
    assert "threads=0: give at least 1" in error_of(open_session, fake_bundle.open(), "onnx", 0)


def test_the_package_offers_sessions_without_importing_numpy_first() -> None:
    code = (
        "import sys, pocketlm.runtime_py as package\n"
        "assert 'numpy' not in sys.modules\n"
        "package.open_session, package.Session\n"
        "heavy = {'torch', 'onnxruntime', 'executorch', 'tokenizers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_s_names_are_what_it_says() -> None:
    assert package.open_session is open_session
    for name in package.__all__:
        assert getattr(package, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018


@pytest.mark.parametrize("position", [1.0, "1", None, [1], np.float32(1)])
def test_a_position_that_is_no_whole_number_is_refused(session: Session, position: Any) -> None:
    session.prefill([2, 3])
    assert "give a whole number of tokens" in error_of(session.rewind, position)
    assert session.position == 2


@pytest.mark.parametrize("tokens", [5, None, 1.5, [1.0], ["1"], np.array([1.0]), "ab", [None]])
def test_what_is_no_list_of_ids_is_refused(session: Session, tokens: Any) -> None:
    assert "give " in error_of(session.prefill, tokens)
    assert session.position == 0


@pytest.mark.parametrize("token", [-1, 2**31, 2**63, 10**310])
def test_an_id_outside_the_table_is_refused(session: Session, token: int) -> None:
    assert "the model has ids 0 to" in error_of(session.prefill, [token])
    assert "the model has ids 0 to" in error_of(session.decode, token)


def test_a_closed_session_says_so_and_closes_twice(session: Session) -> None:
    session.prefill([2, 3])
    session.close()
    session.close()
    for action in (
        lambda: session.prefill([2]),
        lambda: session.decode(2),
        lambda: session.rewind(1),
        lambda: session.rewind_error(1),
        session.reset,
    ):
        assert "the session is closed; open another" in error_of(action)
