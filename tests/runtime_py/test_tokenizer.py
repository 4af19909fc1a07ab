from typing import Any

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.tokenizer import TextStream, Tokenizer, read_tokenizer
from pocketlm.runtime_py.tokenizer_library import LibraryTokenizer

# Any characters, with many of those that byte fallback takes apart.
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(" €🙂ñ字\n\ufffd"))
fixtures_stay = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def streamed(stream: TextStream, ids: list[int]) -> list[str]:
    return [*(stream.push(token) for token in ids), stream.flush()]


@fixtures_stay
@given(ANY_TEXT)
def test_streamed_text_is_the_text(any_tokenizer: Tokenizer, text: str) -> None:
    # Control tokens, which a drawn text may spell, are left out of an answer.
    ids = any_tokenizer.encode_as_text(text, ())
    # Spaces are written as this sign, which no such tokenizer can tell from the sign itself.
    if "▁" not in text:
        assert "".join(streamed(any_tokenizer.stream(), ids)) == text


@fixtures_stay
@given(ANY_TEXT)
def test_every_prefix_that_was_printed_is_whole_characters(
    any_tokenizer: Tokenizer, text: str
) -> None:
    shown = ""
    stream = any_tokenizer.stream()
    for token in any_tokenizer.encode_as_text(text, ()):
        shown += stream.push(token)
        if "▁" not in text:
            assert text.startswith(shown)


@fixtures_stay
@given(st.data())
def test_any_ids_at_all_stream_without_an_error(any_tokenizer: Tokenizer, data: Any) -> None:
    ids = data.draw(st.lists(st.integers(0, any_tokenizer.size - 1), max_size=12))
    pieces = streamed(any_tokenizer.stream(), ids)
    assert not any(piece.endswith("\ufffd") for piece in pieces[:-1])
    whole = any_tokenizer.decode(ids)
    if "\ufffd" not in whole:
        # The stripping decoder takes one space off the whole; a stream keeps it.
        assert "".join(pieces) in (whole, " " + whole)


def test_half_a_character_waits_for_its_other_half(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("🙂x")
    assert streamed(tokenizer.stream(), ids) == ["", "", "", "🙂", "x", ""]


def test_bytes_that_never_become_a_character_are_replaced_at_the_end(tokenizer: Tokenizer) -> None:
    half = tokenizer.encode("🙂")[:2]
    assert streamed(tokenizer.stream(), half) == ["", "", "\ufffd\ufffd"]


def test_broken_bytes_do_not_hold_back_what_follows(tokenizer: Tokenizer) -> None:
    broken = [*tokenizer.encode("🙂")[:1], *tokenizer.encode("hello")]
    assert streamed(tokenizer.stream(), broken) == ["", "\ufffdhello", ""]


def test_a_whole_character_before_broken_bytes_is_not_taken_back(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode("🙂"), *tokenizer.encode("🙂")[:1], *tokenizer.encode("x")]
    assert "".join(streamed(tokenizer.stream(), ids)) == "🙂\ufffdx"


def test_the_first_piece_keeps_its_space(any_tokenizer: Tokenizer) -> None:
    assert "".join(streamed(any_tokenizer.stream(), any_tokenizer.encode(" we are"))) == " we are"


def test_special_tokens_are_hidden(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a<end_of_turn>b<eos>")
    assert len(ids) == 4
    assert "".join(streamed(tokenizer.stream(), ids)) == "ab"
    assert tokenizer.decode(ids) == "ab"


def test_nothing_is_added_to_a_text(tokenizer: Tokenizer, raw_tokenizer: Any) -> None:
    raw_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 1)]
    )
    assert Tokenizer(LibraryTokenizer(raw_tokenizer), 2).encode("hello") == tokenizer.encode(
        "hello"
    )


@pytest.mark.parametrize("prompt", ["hello", "<bos>hello"])
def test_a_raw_prompt_begins_with_bos_exactly_once(tokenizer: Tokenizer, prompt: str) -> None:
    assert tokenizer.encode_prompt(prompt) == [2, *tokenizer.encode("hello")]


def test_a_model_without_bos_gets_none(raw_tokenizer: Any) -> None:
    made = Tokenizer(LibraryTokenizer(raw_tokenizer), None)
    assert made.encode_prompt("hello") == made.encode("hello")


def test_an_empty_prompt_is_bos_alone(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode_prompt("") == [2]


def test_limits_saved_in_the_file_do_not_cut_or_pad(raw_tokenizer: Any) -> None:
    raw_tokenizer.enable_truncation(2)
    raw_tokenizer.enable_padding(length=8)
    text = "abc def"
    assert len(Tokenizer(LibraryTokenizer(raw_tokenizer), None).encode(text)) == len(text)


def test_the_size_counts_to_the_highest_id(raw_tokenizer: Any) -> None:
    made = Tokenizer(LibraryTokenizer(raw_tokenizer), None)
    assert made.size == raw_tokenizer.get_vocab_size()
    assert made.token(made.size - 1) == "▁▁"
    assert made.token(made.size) == f"no token {made.size}"


def test_text_that_was_not_utf8_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(RunError, match="the text is not valid UTF-8: byte 0xff"):
        tokenizer.encode("a\udcff")


def test_the_bundle_s_tokenizer_is_read(fake_bundle: Any, tokenizer: Tokenizer) -> None:
    assert read_tokenizer(fake_bundle.open()).encode_prompt("hello €") == [
        2,
        *tokenizer.encode("hello €"),
    ]


def test_a_damaged_tokenizer_is_named(fake_bundle: Any) -> None:
    fake_bundle.write("tokenizer.json", '{"version": "1.0"}')
    with pytest.raises(RunError, match=r"tokenizer\.json: cannot be read as a tokenizer"):
        read_tokenizer(fake_bundle.open())


def test_a_missing_tokenizer_is_named(fake_bundle: Any) -> None:
    fake_bundle.remove("tokenizer.json")
    with pytest.raises(RunError, match=r"tokenizer\.json is missing"):
        read_tokenizer(fake_bundle.open())
