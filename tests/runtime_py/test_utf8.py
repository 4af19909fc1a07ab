import pytest

from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.utf8 import check_utf8, decode_utf8


def test_bytes_that_are_utf8_are_decoded() -> None:
    assert decode_utf8("a€".encode(), "it") == "a€"
    check_utf8("a€🙂", "it")


def test_the_first_bad_byte_is_named() -> None:
    with pytest.raises(RunError) as caught:
        decode_utf8(b"abc\xff\xfe", "the prompt")
    assert "the prompt is not valid UTF-8: byte 0xff at offset 3" in str(caught.value)
    assert "as UTF-8" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"ab\xe9".decode("utf-8", "surrogateescape"), "byte 0xe9 after 2 characters"),
        ("a\ud83d", "U+D83D after 1 characters"),
        ("\udc00", "U+DC00 after 0 characters"),
    ],
)
def test_text_from_bad_bytes_is_refused(text: str, found: str) -> None:
    with pytest.raises(RunError, match="--prompt is not valid UTF-8") as caught:
        check_utf8(text, "--prompt")
    assert found in str(caught.value)
