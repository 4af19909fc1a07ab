"""Text from outside: bytes that must be UTF-8."""

from pocketlm.runtime_py.errors import RunError

# Python keeps an undecodable byte of a command line as this plus the byte.
_ESCAPED_BYTE = 0xDC00


def decode_utf8(data: bytes, source: str) -> str:
    """Return the text of bytes.

    Args:
        source: what the bytes are, for the message.

    Raises:
        RunError: they are not UTF-8; names the first bad byte.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RunError(
            f"{source} is not valid UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}; "
            "save or type it as UTF-8"
        ) from error


def check_utf8(text: str, source: str) -> None:
    """Refuse text that holds bytes which were not UTF-8.

    Raises:
        RunError: names the first of them.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        found = f"U+{code:04X}"
        if _ESCAPED_BYTE + 0x80 <= code <= _ESCAPED_BYTE + 0xFF:
            found = f"byte 0x{code - _ESCAPED_BYTE:02x}"
        raise RunError(
            f"{source} is not valid UTF-8: {found} after {error.start} characters; "
            "save or type it as UTF-8"
        ) from error
