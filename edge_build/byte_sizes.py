"""Sizes as people write them ("4G", "3.5GiB") and as they read them ("4.4 GB")."""

import re

from pocketlm.edge_build.errors import BuildError

# As in GNU coreutils: G and GiB are 2^30 bytes, GB is 10^9.
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])(B|I|IB)?", re.IGNORECASE)
_POWERS = "KMGT"


def parse_size(text: str) -> int:
    """Return the bytes of a number with a unit: K, M, G or T, alone, with B, or with iB.

    Raises:
        BuildError: something else, or less than a byte.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise BuildError(
            f"{text!r} is not a size; write a number with a unit, for example 4G or 4GiB "
            "(2^30 bytes each), 4GB (10^9 bytes) or 4096M"
        )
    number, letter, end = match.groups()
    base = 1000 if (end or "").upper() == "B" else 1024
    size = int(float(number) * base ** (1 + _POWERS.index(letter.upper())))
    if size < 1:
        raise BuildError(f"{text!r} is no memory at all; write for example 4G")
    return size


def written_size(size_bytes: int) -> str:
    """Return a size in the shortest form that `parse_size` reads back: "4G", "100M", "1500MB"."""
    forms = [
        f"{size_bytes // base**power}{letter}{end}"
        for base, end in ((1024, ""), (1000, "B"))
        for power, letter in enumerate(_POWERS, 1)
        if size_bytes % base**power == 0
    ]
    return min(forms, key=len, default=f"{size_bytes / 1000}KB")


def shown_size(size_bytes: float) -> str:
    """Return a size for people, in decimal units: "4.39 GB", "612 MB"."""
    if size_bytes >= 1e9:
        return f"{size_bytes / 1e9:.2f} GB"
    return f"{size_bytes / 1e6:.0f} MB"
