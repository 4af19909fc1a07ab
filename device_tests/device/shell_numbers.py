"""Numbers as a device's shell and its files print them."""

import re

# What stands for a number in a pattern. A longer one counts nothing of a device, and Python reads
# none of thousands of digits.
NUMBER = r"[0-9]{1,18}\b"


def whole_number(text: str) -> int | None:
    """Return the number that a text is; None where it is none."""
    return int(text) if re.fullmatch(rf"-?{NUMBER}", text) else None
